"""What goes to the terminal and what only to the files, of all that programs say."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest

from app.errors import SettingsError
from app.telemetry.log_format import LOG_FORMAT
from ebs.local.program_log import ProgramLog, shown_of

WHEN = "2026-11-27 23:15:01,123"


class Terminal:
    """Remembers lines; `gone` is how it behaves once nobody reads it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_gone = False

    def __call__(self, role: str, line: str) -> None:
        """Write a line."""
        if self.is_gone:
            raise BrokenPipeError
        self.lines.append(f"{role} | {line}")


@pytest.fixture
def terminal() -> Terminal:
    """Return a terminal."""
    return Terminal()


@pytest.fixture
def make_log(tmp_path, terminal):
    """Return a factory of logs on that terminal, which count how often it was found gone."""
    made = []

    def make(**options) -> ProgramLog:
        options.setdefault("on_gone", lambda: None)
        made.append(ProgramLog(tmp_path / "data" / "logs", terminal, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"{WHEN} INFO agents.processing: ready", None),
        (f"{WHEN} WARNING agents.engine.attempt_outcomes: task 7-0 failed", "warning: task 7-0 failed"),
        (f"{WHEN} ERROR api.process: a part of the API failed", "error: a part of the API failed"),
        (f"{WHEN} WARNING shop.work: no stock", "warning: no stock"),
        (f"{WHEN} WARNING mode.redirect: printed by a handler", "printed by a handler"),
        (f"{WHEN} INFO faust.worker: [^Worker]: Stopping...", None),
        (f"{WHEN} WARNING faust.app.base: a warning of Faust", None),
        (f"{WHEN} ERROR faust.app.base: [^App]: Crashed", "error: [^App]: Crashed"),
        (f"{WHEN} ERROR aiokafka.conn: Unable to connect", None),
        ("INFO:     Finished server process [1]", None),
        ("ERROR:    Exception in ASGI application", "error: Exception in ASGI application"),
        ("error: EBS_PARTITIONS=x: must be a number", "error: EBS_PARTITIONS=x: must be a number"),
        (" OK ^", None),
        ("", None),
    ],
)
def test_people_see_warnings_and_errors_of_ours_and_of_handlers(line, shown):
    """Not the talk of libraries; what handlers print is shown as it is."""
    assert shown == shown_of(line)


def test_format_of_our_processes_is_the_one_that_is_read():
    """A changed format would make all warnings vanish from the terminal."""
    record = logging.LogRecord("agents.engine", logging.WARNING, "file", 1, "a task failed", (), None)
    assert "warning: a task failed" == shown_of(logging.Formatter(LOG_FORMAT).format(record))


def test_files_have_everything(make_log, terminal):
    """Each program has one; events stand between its lines."""
    log = make_log()
    log.event("api", "started, process 7")
    log.line("api", f"{WHEN} INFO api.main: something")
    log.line("worker", "a line")
    assert ["api | started, process 7"] == terminal.lines
    written = {path.name: path.read_text() for path in log.directory.iterdir()}
    expected = f"-- started, process 7\n{WHEN} INFO api.main: something\n"
    assert {"api.log": expected, "worker.log": "a line\n"} == written


def test_lines_that_go_on_are_shown_with_the_first(make_log, terminal):
    """The stack of an error that is shown, not that of one which is not."""
    log = make_log()
    for header in (f"{WHEN} ERROR agents.x: it broke", f"{WHEN} INFO faust.y: it stops"):
        for line in (header, "Traceback (most recent call last):", "    in file"):
            log.line("w", line)
        log.line("w", "something else")
    assert ["w | error: it broke", "w | Traceback (most recent call last):", "w |     in file"] == terminal.lines


def test_crash_shows_the_last_lines_that_were_not_seen(make_log, terminal):
    """And where the others are; a later crash shows nothing of the life before it."""
    log = make_log()
    log.line("w", f"{WHEN} WARNING agents.x: seen already")
    for number in range(20):
        log.line("w", f"line {number}")
    for talk in (f"{WHEN} INFO faust.worker: [^Worker]: Stopping...", "INFO:     Finished server process [1]", " "):
        log.line("w", talk)
    log.event("w", "restarts now because of this", crashed=True)
    assert ["w | warning: seen already", "w |     line 10"] == terminal.lines[:2]
    assert ["w |     line 19", f"w | restarts now because of this; its log: {log.directory / 'w.log'}"] == (
        terminal.lines[-2:]
    )
    count = len(terminal.lines)
    log.event("w", "restarts now because of that", crashed=True)
    assert len(terminal.lines) == count + 1


def test_crash_loop_gives_its_reason_once(make_log, terminal):
    """Each life says the same; another reason, and the same one twice in a life, are news."""
    log = make_log()
    for reasons in (["error: no shop"], ["error: no shop"], ["error: no shop", "error: no shop", "error: no stock"]):
        for reason in reasons:
            log.line("w", reason)
        log.event("w", "restarts", crashed=True)
    said = [line for line in terminal.lines if "error" in line]
    assert ["w | error: no shop", "w | error: no shop", "w | error: no stock"] == said
    assert 3 == sum("restarts" in line for line in terminal.lines)


def test_verbose_shows_everything(make_log, terminal):
    """As it was said."""
    log = make_log(verbose=True)
    log.line("w", f"{WHEN} INFO faust.worker: chatter")
    assert [f"w | {WHEN} INFO faust.worker: chatter"] == terminal.lines


def test_quiet_log_tells_crashes_only(make_log, terminal):
    """As in the demonstration, whose own lines stand on the terminal."""
    log = make_log(tells_lives=False)
    log.event("w", "started, process 7")
    log.event("w", "restarts now", crashed=True)
    assert 1 == len(terminal.lines)
    assert "restarts now" in terminal.lines[0]


def test_terminal_that_went_away_is_reported_and_costs_nothing(make_log, terminal):
    """As in `ebs up | head`."""
    gone = []
    log = make_log(on_gone=lambda: gone.append(1))
    terminal.is_gone = True
    log.event("w", "started, process 7")
    log.line("w", "error: something")
    assert (True, 2) == (log.is_gone, len(gone))
    assert "error: something" in (log.directory / "w.log").read_text()


def test_directory_that_cannot_be_made_is_a_clear_error(tmp_path, terminal):
    """It names the option that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="choose another directory with --data-dir"):
        ProgramLog(tmp_path / "file" / "logs", terminal, on_gone=lambda: None)


def test_any_text_can_be_written(make_log):
    """Bytes that are no text came in as replacement characters; lone surrogates are escaped."""
    with closing(make_log()) as log:
        log.line("w", "a\ud800b\ufffd")
        assert "a\\ud800b\ufffd\n" == (log.directory / "w.log").read_text()
