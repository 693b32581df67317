"""When a dead program is started again."""

from __future__ import annotations

from ebs.local.restart_policy import Failures, RestartPolicy, after_end

POLICY = RestartPolicy(first_pause_s=0.5, max_pause_s=4.0, healthy_after_s=10.0, refusal_limit=3)
REFUSED = frozenset({1})


def pauses(*ends: tuple[int, float]) -> list[float | None]:
    """Return the pause after each of a program's ends, given as exit code and seconds that it ran."""
    failures = Failures()
    found = []
    for exit_code, ran_s in ends:
        failures, pause_s = after_end(POLICY, failures, exit_code=exit_code, ran_s=ran_s, refused=REFUSED)
        found.append(pause_s)
    return found


def test_pause_doubles_up_to_its_cap():
    """A program that keeps dying is started less and less often, but never given up."""
    assert [0.5, 1.0, 2.0, 4.0, 4.0] == pauses(*[(-9, 0.1)] * 5)


def test_healthy_life_forgets_the_failures_before_it():
    """After a life of `healthy_after_s` the pauses begin anew."""
    assert [0.5, 1.0, 0.5, 1.0] == pauses((-9, 0.1), (-9, 0.1), (-9, 10.0), (-9, 9.9))


def test_crash_only_end_restarts_at_once_but_not_in_a_hot_loop():
    """A worker that ended itself starts again without a pause, unless it does so again and again."""
    assert [0.0, 1.0, 2.0, 0.0] == pauses((70, 60.0), (71, 0.1), (70, 0.1), (71, 60.0))


def test_worker_that_waits_for_a_person_is_never_given_up():
    """Without its Kafka, which ends with `ebs up`, nobody could run the command that decides."""
    assert [30.0] * 12 == pauses(*[(74, 4.0)] * 12)


def test_third_refusal_in_a_row_gives_up():
    """A program that cannot work as it is configured is not started a fourth time."""
    assert [0.5, 1.0, None] == pauses((1, 2.0), (1, 2.0), (1, 2.0))


def test_program_that_never_ran_well_is_given_up():
    """Such as a module that ends its process when it is imported; not where a restart is the cure, or it ran well."""
    assert [4.0, None] == pauses(*[(9, 1.0)] * 8)[-2:]
    assert [4.0, None] == pauses(*[(-11, 1.0)] * 8)[-2:]
    assert None not in pauses(*[(70, 1.0), (72, 1.0), (-9, 1.0)] * 8)
    assert None not in pauses((9, 10.0), *[(9, 1.0)] * 20)


def test_other_ends_between_refusals_restart_the_count():
    """Only refusals in an unbroken row give up: a kill between them says that the program could work."""
    assert None not in pauses((1, 2.0), (1, 2.0), (-9, 2.0), (1, 2.0), (1, 2.0))


def test_late_exit_code_1_is_no_refusal():
    """A program that ran well before it ended with 1 is restarted, however often."""
    assert [0.5] * 5 == pauses(*[(1, 10.0)] * 5)


def test_very_many_failures_do_not_overflow():
    """The pause stays at its cap after thousands of failures."""
    assert 4.0 == pauses(*[(-9, 0.0)] * 2_000)[-1]
