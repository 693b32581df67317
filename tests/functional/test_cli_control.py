"""`ebs pause`, `workers`, `tasks` and their like against the application itself, without Kafka and a network."""

from __future__ import annotations

import json

import msgspec
import pytest
from fake_steps import no_rows
from histories import made_fact
from plain_names import CONTROL, WORKERS

from app.errors import BrokerUnavailable
from app.events import ObjectCreated, TaskDead, TaskFailed, TaskFinished, task_id_of
from app.rules.commands import Pause, encode_command
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.worker_heartbeats import RunningTask, WorkerFigures, WorkerIdentity, heartbeat_of
from ebs.cli.client import ApiError
from ebs.cli.control_tables import control_table, limits_of_kind

NOW_MS = 1_795_489_276_303


def keys(api) -> list[str]:
    """Return the keys in force."""
    return [command_key.encoded().decode() for command_key in api.view.control.state.commands()]


def write_object(api) -> None:
    """Let object `a1` exist: one task finished, one dead, one queued."""
    event = ObjectCreated(object_id="a1", kind="mail", name="n", content="c", at_ms=NOW_MS)
    api.topics.write_object(event)
    row, tally, results = ObjectRow(), Tally(), Results(no_rows)
    apply_object_created(row, event, tally)
    for sequence in range(3):
        common = ("a1", task_id_of("a1", sequence), 0, "mail", sequence, 3, 1)
        apply_task_event(row, made_fact("c", *common, NOW_MS), tally)
        if sequence == 0:
            apply_task_event(row, TaskFailed("x", *common, NOW_MS, "w", 0, 0, "OSError: first"), tally, results)
            apply_task_event(
                row, TaskFinished("f", *common, NOW_MS, "w", 12, 1_500, msgspec.Raw(b'{"words":7}')), tally, results
            )
        elif sequence == 1:
            apply_task_event(
                row, TaskDead("d", *common, NOW_MS, "w", 0, 0, "ValueError: [no] such page"), tally, results
            )
    api.topics.write_row("a1", row, results=results)


def write_worker(api, name: str, role: str, figures: WorkerFigures) -> None:
    """Let a worker be heard now."""
    identity = WorkerIdentity(name, role, "0.1.0", "host", 42, NOW_MS, "default" if role == "processing" else "")
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, figures, NOW_MS))


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (["pause"], "pause", "every kind is paused; `ebs resume` undoes it"),
        (["pause", "--kind", "mail"], "pause:mail", "mail is paused; `ebs resume --kind mail` undoes it"),
        (["rate", "mail", "2.5"], "rate:mail", "at most 2.5 tasks of mail start per second"),
        (["concurrency", "8"], "concurrency", "each worker runs at most 8 tasks at once"),
        (["concurrency", "8", "--worker", "p-1"], "concurrency:p-1", "p-1 runs at most 8 tasks at once"),
        (["drain", "p-1"], "drain:p-1", "p-1 starts no more tasks; `ebs drain p-1 --off` undoes it"),
        (["cancel", "a1"], "cancel:object:a1", "cancelled: object a1; `ebs tasks a1` shows its tasks"),
        (["cancel", "--task", "a1-2"], "cancel:task:a1-2", "cancelled: task a1-2"),
        (
            ["cancel", "--kind", "mail"],
            f"cancel:filter:mail-{NOW_MS}",
            "cancelled: all tasks of mail that were created",
        ),
        (
            ["cancel", "--kind", "mail", "--before", "1795489276000"],
            "cancel:filter:mail-1795489276000",
            "cancelled: all tasks of mail that were created before ",
        ),
        (
            ["cancel", "--before", "1795489276000"],
            "cancel:filter:*-1795489276000",
            "cancelled: all tasks of every kind",
        ),
    ],
)
def test_command_is_in_force_and_said(api, ebs, arguments, key, said):
    """One sentence for people, the API's answer with --json, exit code 0."""
    write_object(api)
    write_worker(api, "p-1", "processing", WorkerFigures())
    done = ebs(*arguments)
    assert (0, True) == (done.exit_code, done.stdout.startswith(said))
    assert [key] == keys(api)
    answer = json.loads(ebs(*arguments, "--json").stdout)
    assert answer["seen"] is True


@pytest.mark.parametrize(
    ("doing", "undoing"),
    [
        (["pause"], ["resume"]),
        (["pause", "--kind", "mail"], ["resume", "--kind", "mail"]),
        (["rate", "mail", "2.5"], ["rate", "mail", "--off"]),
        (["concurrency", "8"], ["concurrency", "--off"]),
        (["concurrency", "8", "--worker", "p-1"], ["concurrency", "--off", "--worker", "p-1"]),
        (["drain", "p-1"], ["drain", "p-1", "--off"]),
    ],
)
def test_command_is_undone(api, ebs, doing, undoing):
    """What was done can be undone, with the same words."""
    write_worker(api, "p-1", "processing", WorkerFigures())
    ebs(*doing)
    assert 1 == len(keys(api))
    assert 0 == ebs(*undoing).exit_code
    assert [] == keys(api)


def test_resume_says_what_is_still_paused(ebs):
    """A pause of its own is not undone with the others, so it is named."""
    ebs("pause", "--kind", "mail")
    ebs("pause", "--reason", "night")
    assert "all kinds are still paused" in ebs("resume", "--kind", "image").stdout
    assert "still paused on their own: mail" in ebs("resume").stdout
    assert "still" not in ebs("resume", "--kind", "mail").stdout


def test_nothing_is_said_in_words(ebs):
    """An empty table would leave one wondering."""
    assert ["nothing is in force\n", "no worker lives\n"] == [ebs(name).stdout for name in ("control", "workers")]


def test_reason_is_kept(api, ebs):
    """Whoever looks later learns why."""
    write_object(api)
    ebs("cancel", "a1", "--reason", "wrong list")
    ebs("pause", "--reason", "night")
    assert ["night", "wrong list"] == [command.reason for command in api.view.control.state.commands().values()]
    table = ebs("control").stdout
    assert ("night" in table, "wrong list" in table, "object a1" in table) == (True, True, True)


def test_control_shows_everything_in_force(api, ebs):
    """A row for each command, with what it is about."""
    write_worker(api, "p-1", "processing", WorkerFigures())
    for arguments in (
        ["pause", "--kind", "mail"],
        ["rate", "image", "0.5"],
        ["concurrency", "8"],
        ["concurrency", "2", "--worker", "p-1"],
        ["drain", "p-1"],
        ["cancel", "--before", "1795489276000"],
    ):
        ebs(*arguments)
    table = ebs("control").stdout
    expected = ["mail", "0.5 start a second", "all workers", "8 at once", "2 at once", "drain", "all kinds from before"]
    assert [] == [words for words in expected if words not in table]
    assert 6 == len([line for line in table.splitlines() if line.startswith("│")])
    assert {"mail"} == set(json.loads(ebs("control", "--json").stdout)["paused_kinds"])


def test_cancels_that_are_not_shown_are_counted(api, ebs):
    """The table says how many more there are."""
    for number in range(102):
        value = b'{"type":"CANCEL","at_ms":%d}' % number
        api.topics.write(CONTROL, 0, b"cancel:object:%d" % number, value)
    assert "2 older cancels" in ebs("control").stdout


def test_workers_are_shown(api, ebs):
    """A line a worker; with --running the tasks that run longest, with their progress."""
    running = [RunningTask("a1-0", 61_500, 0.4, "[page] 4 of 10"), RunningTask("b1-0", 20)]
    figures = WorkerFigures([0, 1, 2, 5, 7, 8], 2, 61_500, NOW_MS - 3_000, draining=True, running=running)
    write_worker(api, "p-1", "processing", figures)
    write_worker(api, "s-1", "statistics", WorkerFigures([0]))
    write_worker(api, "p-2", "processing", WorkerFigures([3], 1, abandoned=2))
    table = ebs("workers").stdout
    assert "1 and 2 abandoned" in " ".join(table.split())
    line = next(line for line in table.splitlines() if "p-1" in line)
    assert ["p-1", "processing", "0-2, 5, 7-8", "2", "61.5 s", "3.0 s ago", "draining", "0.1.0", "host process 42"] == [
        cell.strip() for cell in line.strip("│").split("│")
    ]
    assert "a1-0" not in table
    shown = ebs("workers", "--running", "--role", "processing").stdout
    assert ("40%" in shown, "[page] 4 of 10" in shown, "s-1" in shown) == (True, True, False)
    assert ["p-1", "p-2", "s-1"] == [one["worker"] for one in json.loads(ebs("workers", "--json").stdout)["workers"]]


def test_workers_come_with_what_they_may_not_start(api, ebs):
    """Whoever wonders why they do nothing reads who paused it, why, and how it ends; programs ask `ebs control`."""
    write_worker(api, "p-1", "processing", WorkerFigures())
    ebs("pause", "--reason", "night")
    reason = "breaker of worker p-1: 64 of 100 tasks of kind mail died within 60 s; the last error: E: [no] user"
    api.topics.write(CONTROL, 0, b"pause:mail", encode_command(Pause(NOW_MS, reason, "p-1")))
    said = " ".join(ebs("workers").stdout.split())
    assert "paused: all kinds since " in said
    assert " (night); `ebs resume` undoes it" in said
    assert f" ({reason}); `ebs resume --kind mail` undoes it" in said
    assert {"namespace", "workers", "view"} == set(json.loads(ebs("workers", "--json").stdout))


def test_tasks_are_shown(api, ebs):
    """State, attempts, times, the error as its handler wrote it, and the result of one that failed before."""
    write_object(api)
    table = ebs("tasks", "a1").stdout
    expected = ["a1-0", "FINISHED", "a1-1", "DEAD", "ValueError: [no] such page", "a1-2", "QUEUED", "1.5 s"]
    assert expected == [words for words in expected if words in table]
    assert '{"words": 7}' in table
    assert 3 == len(json.loads(ebs("tasks", "a1", "--json").stdout)["tasks"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel"],
        ["cancel", "a1", "--task", "a1-0"],
        ["cancel", "a1", "--kind", "mail"],
        ["cancel", "--kind", "mail", "--before", "yesterday"],
        ["rate", "mail"],
        ["rate", "mail", "2", "--off"],
        ["rate", "mail", "0"],
        ["rate", "mail", "nan"],
        ["rate", "mail", "many"],
        ["concurrency"],
        ["concurrency", "0"],
        ["concurrency", "3", "--off"],
        ["drain"],
        ["workers", "--role", "procesing"],
        ["tasks"],
        ["pause", "mail"],
    ],
)
def test_wrong_usage_exits_with_2(api, ebs, arguments):
    """Nothing is asked of the API then."""
    write_object(api)
    assert 2 == ebs(*arguments).exit_code
    assert [] == keys(api)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tasks", "unknown"], "there is no object unknown"),
        (["cancel", "unknown"], "there is no object unknown"),
        (["cancel", "--task", "a1-0"], "task a1-0 has ended: it is FINISHED"),
        (["drain", "p-9"], "no worker p-9 is running; running processing workers: none"),
        (["pause", "--kind", "a b"], "#/kind: Expected `str` matching regex '^[A-Za-z0-9._-]+$'"),
    ],
)
def test_refusal_is_the_apis_sentence(api, ebs, arguments, said):
    """The command fails with what the API says; `main` makes it a red line and exit code 1."""
    write_object(api)
    done = ebs(*arguments)
    assert 1 == done.exit_code
    assert isinstance(done.exception, ApiError)
    assert str(done.exception).startswith(said)


def test_broker_away_is_a_failure(api, ebs):
    """A command that the broker does not have has not been given."""
    api.topics.failure = BrokerUnavailable("nobody answers")
    done = ebs("pause")
    assert (1, True) == (done.exit_code, "nothing has changed" in str(done.exception))


def test_command_that_is_not_read_back_yet_says_so(api, ebs):
    """It is accepted, so the exit code is 0; the doubt is on stderr."""
    api.topics.deliver_at_once = False
    done = ebs("pause")
    assert (0, True) == (done.exit_code, "has not read it back yet" in done.stderr)
    assert "" == ebs("pause", "--json").stderr


def test_standstill_is_said(api, ebs):
    """By `ebs workers` and `ebs explain`."""
    identity = WorkerIdentity("p-1", "processing", "0.1.0", "host", 42, NOW_MS - 100_000, "default")
    figures = WorkerFigures(standing_still="retries are due", refused="the broker cannot read t-1")
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, figures, NOW_MS), timestamp_ms=NOW_MS)
    for words in (("workers",), ("explain", api.post().json()["id"])):
        said = " ".join(ebs(*words).stdout.split())
        assert "processing/p-1 stands still: retries are due" in said
        assert "processing/p-1: the broker cannot read t-1" in said


def test_explain_says_what_keeps_an_object_from_going_on(api, ebs):
    """No worker, a pause, limits: each with the command that ends it. Limits of other kinds are left out."""
    object_id = api.post().json()["id"]
    assert "no processing worker is running" in ebs("explain", object_id).stdout
    ebs("pause", "--kind", "default")
    ebs("rate", "mail", "5")
    ebs("limit", "default", "--rate", "7", "--concurrency", "2", "--per-key", "1")
    said = " ".join(ebs("explain", object_id).stdout.split())
    assert "`ebs resume --kind default` undoes it" in said
    assert "limit of kind default: 7 start a second (by command)" in said
    assert "limit of kind default: 2 at once (by command)" in said
    assert "limit of kind default: 1 at once of each key (by command)" in said
    assert "kind mail" not in said


def test_limits_of_the_project_are_told(make_api):
    """Each limit is the project's until a command sets another; `*` is each kind that has no function of its own."""
    api = make_api(project="keyed_project")
    assert api.request("PUT", "/api/control/limits/keyed", json={"concurrency": 5}).is_success
    answer = api.get("/api/control").json()
    assert [("5 at once", False), ("1 at once of each key", True)] == list(limits_of_kind(answer, "keyed"))
    assert [] == list(limits_of_kind(answer, "free"))
    answer["project_limits"]["*"] = {"rate_per_s": 2.5, "concurrency": None, "per_key": None}
    assert [[], [("2.5 start a second", True)]] == [list(limits_of_kind(answer, kind)) for kind in ("free", "odd")]
    rows = [list(column.cells) for column in control_table(answer).columns]
    assert (["*", "keyed", "keyed"], "the project says so") == (rows[1], rows[4][0])
    assert "keyed: at most 1 of each key" in api.request("GET", "/control", headers={"accept": "text/html"}).text


def test_explain_tells_a_drained_worker_from_a_stopping_one(api, ebs):
    """Both say `draining`; a drain by control can be undone, a stop by SIGTERM cannot."""
    object_id = api.post().json()["id"]
    for name in ("p-1", "p-2"):
        write_worker(api, name, "processing", WorkerFigures(draining=True))
    ebs("drain", "p-1")
    said = ebs("explain", object_id).stdout
    assert "p-1 is drained: `ebs drain p-1 --off` undoes it" in said
    assert "p-2 is drained" not in said


def test_kind_that_nobody_has_seen_is_a_warning(api, ebs):
    """The command holds, and stderr says which kinds are like it; a kind that is known warns nobody."""
    api.post(json={"kind": "mail"})
    for words in (("pause", "--kind", "mial"), ("rate", "mial", "5"), ("cancel", "--kind", "mial")):
        result = ebs(*words)
        assert (0, True) == (
            result.exit_code,
            'no task of kind "mial" was ever seen (did you mean "mail"?)' in result.stderr,
        )
    assert "mial" in json.loads(ebs("control", "--json").stdout)["paused_kinds"]
    for words in (("pause", "--kind", "mail"), ("rate", "mail", "5"), ("cancel", "--kind", "mail"), ("pause",)):
        assert "warning" not in ebs(*words).stderr


def test_undoing_what_is_not_in_force_is_a_warning(api, ebs):
    """A resume of a misspelt kind leaves the pause; it says so."""
    api.post(json={"kind": "mail"})
    ebs("pause", "--kind", "mail")
    assert 'no such command for "mial" was in force (did you mean "mail"?)' in ebs("resume", "--kind", "mial").stderr
    assert "warning" not in ebs("resume", "--kind", "mail").stderr
    assert "warning" not in ebs("resume").stderr


def test_concurrency_of_a_worker_that_does_not_live_is_a_warning(api, ebs):
    """It holds when such a worker comes; a mistyped name is offered the names that are like it."""
    identity = WorkerIdentity("processing-1", "processing", "0.1.0", "host", 42, NOW_MS, "default")
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, WorkerFigures(), NOW_MS), timestamp_ms=NOW_MS)
    said = ebs("concurrency", "4", "--worker", "procesing-1").stderr
    assert 'no worker "procesing-1" is running (did you mean "processing-1"?)' in said
    assert "warning" not in ebs("concurrency", "4", "--worker", "processing-1").stderr
