"""The supervisor with real child processes, each of them a line of Python."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.addresses.ports import free_port
from app.errors import ProgramFailed
from ebs.local.prefixed_output import PrefixedOutput, lines_of
from ebs.local.restart_policy import RestartPolicy
from ebs.local.supervisor import Program, StopRequest, Supervisor, stop_on_signals

ROOT = Path(__file__).parents[2]
QUICK = RestartPolicy(first_pause_s=0.01, max_pause_s=0.05, healthy_after_s=1_000)
"""No end on a slow machine counts as one after a healthy life."""
FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
)
LIMIT_S = 60
"""For what takes a moment on a quiet machine, such as the start of a program."""


class Stage:
    """A supervisor with its programs; it remembers what they say, and a test can wait for what it wants to see."""

    def __init__(self, programs, *, policy=QUICK, grace_s=LIMIT_S) -> None:
        self.lines: list[tuple[str, str]] = []
        self.request = StopRequest()
        self._changed = asyncio.Event()
        self._supervisor = Supervisor(programs, log=self, policy=policy, grace_s=grace_s)
        self.children = self._supervisor.children
        self.renew = self._supervisor.renew
        self.add = self._supervisor.add

    def line(self, role: str, line: str) -> None:
        """Hear a line of a program."""
        self.lines.append((role, line))
        self._changed.set()

    def event(self, role: str, text: str, *, crashed: bool = False) -> None:
        """Hear an event of a program's life."""
        self.line(role, f"{text}, crashed" if crashed else text)

    async def play(self, scenario) -> None:
        """Run the programs while the scenario plays, then stop them."""
        running = asyncio.create_task(self._supervisor.run(self.request))
        try:
            await scenario(self)
        finally:
            self.request.stop.set()
            await running

    async def until(self, role: str, line: str, count: int = 1) -> None:
        """Return when a role has said a line that often."""
        async with asyncio.timeout(LIMIT_S):
            while self.lines.count((role, line)) < count:
                self._changed.clear()
                await self._changed.wait()


def program(role: str, code: str) -> Program:
    """Return a program that runs some Python."""
    return Program(role, [sys.executable, "-c", code], dict(os.environ))


def supervise(*programs: Program, scenario, **options) -> Stage:
    """Play a scenario and return the stage as it was left."""

    async def play():
        stage = Stage(programs, **options)
        await stage.play(scenario)
        return stage

    return asyncio.run(play())


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is more than a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    deadline_s = time.monotonic() + LIMIT_S
    while is_alive(pid):
        assert time.monotonic() < deadline_s, f"process {pid} is still there"
        time.sleep(0.01)


def test_output_is_passed_on_by_role():
    """Every line of a child arrives with its role, standard error too, the last one without a line end as well."""
    code = "import sys\nprint('one')\nsys.stdout.flush()\nsys.stderr.write('two')\nsys.stderr.flush()\nsys.stdin.read()"

    async def scenario(stage):
        await stage.until("worker", "one")
        await stage.until("worker", "two")

    supervise(program("worker", code), scenario=scenario)


def test_killed_child_is_started_again():
    """A child killed with -9 has a successor under another pid, and the others never notice."""
    seen = {}

    async def scenario(stage):
        await stage.until("victim", "up")
        await stage.until("bystander", "up")
        seen["first"] = stage.children["victim"].pid
        os.kill(seen["first"], signal.SIGKILL)
        await stage.until("victim", "up", count=2)
        seen["second"] = stage.children["victim"].pid

    stage = supervise(program("victim", FOREVER), program("bystander", FOREVER), scenario=scenario)
    assert seen["first"] != seen["second"]
    assert 2 == stage.children["victim"].start_count
    assert 1 == stage.children["bystander"].start_count
    assert ("victim", "restarts in 0.01 s because it was killed (SIGKILL)") in stage.lines


def test_renewed_child_is_stopped_and_started_again():
    """Without a word of a crash, and nobody else notices."""

    async def scenario(stage):
        await stage.until("worker", "up")
        await stage.until("bystander", "up")
        stage.renew(["worker"])
        await stage.until("worker", "up", count=2)

    stage = supervise(program("worker", FOREVER), program("bystander", FOREVER), scenario=scenario)
    assert (2, 1) == (stage.children["worker"].start_count, stage.children["bystander"].start_count)
    assert [] == [line for _, line in stage.lines if "because" in line]


def test_program_that_is_added_runs_with_the_others_and_stops_with_them():
    """It is kept as they are, and they do not notice."""

    async def scenario(stage):
        await stage.until("worker", "up")
        stage.add(program("later", FOREVER))
        await stage.until("later", "up")
        stage.renew(["later"])
        await stage.until("later", "up", count=2)

    stage = supervise(program("worker", FOREVER), scenario=scenario)
    assert {"worker": 1, "later": 2} == {name: child.start_count for name, child in stage.children.items()}
    assert [None, None] == [child.pid for child in stage.children.values()]


def test_renewal_ends_a_pause_and_forgets_failures():
    """What waits for its next try after a crash starts at once: the cause may be gone."""
    patient = RestartPolicy(first_pause_s=600, max_pause_s=600, refusal_limit=2)

    async def scenario(stage):
        for life in range(1, 4):  # the second refusal in a row would end it
            await stage.until(
                "worker",
                "restarts in 600 s because its configuration does not let it run (exit code 1), crashed",
                count=life,
            )
            stage.renew(["worker"])

    stage = supervise(program("worker", "raise SystemExit(1)"), scenario=scenario, policy=patient)
    assert stage.children["worker"].start_count >= 3


def test_stop_ends_all_children():
    """When the supervisor has returned, no child is left."""
    pids = []

    async def scenario(stage):
        await stage.until("a", "up")
        await stage.until("b", "up")
        pids.extend(child.pid for child in stage.children.values())

    supervise(program("a", FOREVER), program("b", FOREVER), scenario=scenario)
    assert [False, False] == [is_alive(pid) for pid in pids]


def test_child_that_ignores_sigterm_is_killed_after_the_grace():
    """A child that does not want to stop is killed, no earlier than after the grace."""
    times = {}

    async def scenario(stage):
        await stage.until("stubborn", "up")
        times["asked"] = time.monotonic()

    stage = supervise(program("stubborn", STUBBORN), scenario=scenario, grace_s=0.3)
    assert -signal.SIGKILL == stage.children["stubborn"].exit_code
    # uvloop counts in whole milliseconds, so a wait may end one early.
    assert 0.299 <= time.monotonic() - times["asked"]


def test_second_request_does_not_wait_for_the_grace():
    """Asking twice kills at once."""

    async def scenario(stage):
        await stage.until("stubborn", "up")
        stage.request()
        stage.request()

    started_s = time.monotonic()
    supervise(program("stubborn", STUBBORN), scenario=scenario, grace_s=100)
    assert time.monotonic() - started_s < LIMIT_S


def test_paused_child_is_stopped_too():
    """A child under SIGSTOP cannot hear SIGTERM, and goes all the same."""
    pids = []

    async def scenario(stage):
        await stage.until("frozen", "up")
        pids.append(stage.children["frozen"].pid)
        os.kill(pids[0], signal.SIGSTOP)

    supervise(program("frozen", FOREVER), scenario=scenario, grace_s=0.2)
    assert not is_alive(pids[0])


def test_refusing_child_stops_everything_with_its_last_lines():
    """A child that ends with 1 right after three starts in a row stops everything, and its last words are shown."""
    pids = []

    async def scenario(stage):
        await stage.until("good", "up")
        pids.append(stage.children["good"].pid)
        await stage.request.stop.wait()

    with pytest.raises(ProgramFailed, match=r"(?s)bad cannot work.*topic objects has 4 partitions"):
        supervise(
            program("good", FOREVER),
            program("bad", "import sys\nsys.exit('topic objects has 4 partitions')"),
            scenario=scenario,
        )
    assert not is_alive(pids[0])


def test_ctrl_c_reaches_only_the_supervisor():
    """A child is in a session of its own, where no signal of the terminal goes."""
    code = "import os\nprint(os.getpid() == os.getsid(0), flush=True)\nimport time\ntime.sleep(600)"

    async def scenario(stage):
        await stage.until("worker", "True")

    supervise(program("worker", code), scenario=scenario)


def test_signal_becomes_a_request_to_stop():
    """SIGTERM to the supervisor asks to stop; a second one asks to hurry."""

    async def play():
        request = StopRequest()
        with stop_on_signals(request):
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S):
                await request.stop.wait()
            assert not request.hurry.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(LIMIT_S):
                await request.hurry.wait()

    asyncio.run(play())


def test_children_die_with_a_killed_supervisor():
    """`kill -9` of the supervisor leaves no child behind, not even a paused one."""
    code = """
import asyncio, os, sys
from ebs.local.supervisor import Program, StopRequest, Supervisor
child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
program = Program("worker", [sys.executable, "-c", child], dict(os.environ))
class Log:
    def line(self, role, line):
        print(line, flush=True)

    event = line

supervisor = Supervisor([program], log=Log())
asyncio.run(supervisor.run(StopRequest()))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
        supervisor.stdout.readline()  # the supervisor's own word, said before the child is tethered
        pid = int(supervisor.stdout.readline())
        assert is_alive(pid)
        os.kill(pid, signal.SIGSTOP)
        supervisor.kill()
    wait_until_gone(pid)


def test_events_tell_why_a_program_ended():
    """A crash is told as one, with its exit code; a stop is told as well."""

    async def scenario(stage):
        await stage.until("crash", "restarts in 0.01 s because it ended with exit code 5, crashed")
        await stage.until("fenced", "restarts now because its partitions went to another worker (exit code 71)")
        await stage.until("good", "up")

    stage = supervise(
        program("crash", "import sys; sys.exit(5)"),
        program("fenced", "import sys; sys.exit(71)"),
        program("good", FOREVER),
        scenario=scenario,
    )
    assert ("good", "stopped") in stage.lines


def test_prefixes_are_aligned_and_plain_on_a_pipe():
    """Roles are padded to the longest; without a terminal there are no colour codes."""
    stream = io.StringIO()
    output = PrefixedOutput(stream, ["api", "statistics"])
    output("api", "hello [red]")
    output("statistics", "world")
    assert "api        | hello [red]\nstatistics | world\n" == stream.getvalue()


def test_prefixes_are_coloured_on_a_terminal():
    """Each role has its own colour, and only the prefix is coloured."""
    stream = io.StringIO()
    output = PrefixedOutput(stream, ["api", "x"], colour=True)
    output("api", "one")
    output("x", "two")
    assert "\x1b[36mapi |\x1b[0m one\n\x1b[32mx   |\x1b[0m two\n" == stream.getvalue()


def test_lines_of_any_bytes_and_length():
    """Long lines, bytes that are no text and a missing last line end lose nothing."""

    async def read(data: bytes) -> list[str]:
        stream = asyncio.StreamReader(limit=2**26)
        stream.feed_data(data)
        stream.feed_eof()
        return [line async for line in lines_of(stream)]

    expected = ["", "a\ufffd", "b", "x" * 300_000, "end"]
    assert expected == asyncio.run(read(b"\na\xff\r\nb\n" + b"x" * 300_000 + b"\nend"))
    assert 3_000_000 == sum(map(len, asyncio.run(read(b"y" * 3_000_000))))


LEAVES_A_CHILD = (
    "import os, socket, sys, time\n"
    "port = int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0\n"
    "listener = socket.create_server(('127.0.0.1', port))\n"
    "if os.fork() == 0:\n"
    "    time.sleep(600)\n"
    "    os._exit(0)\n"
    "print('up', flush=True)\n"
    "time.sleep(600)"
)


def test_death_is_noticed_though_a_grandchild_holds_the_pipe():
    """And the grandchild goes with it: it holds the port of the next one, too."""
    port = free_port()
    one = Program("parent", [sys.executable, "-c", LEAVES_A_CHILD, str(port)], dict(os.environ))

    async def scenario(stage):
        await stage.until("parent", "up")
        os.kill(stage.children["parent"].pid, signal.SIGKILL)
        await stage.until("parent", "up", count=2)

    stage = supervise(one, scenario=scenario)
    assert 2 == stage.children["parent"].start_count


def test_programs_run_where_the_supervisor_does(tmp_path, monkeypatch):
    """Whatever is named by a relative path is where the person who started them means it to be."""
    monkeypatch.chdir(tmp_path)
    where = program("worker", "import os, time\nprint(os.getcwd(), flush=True)\ntime.sleep(600)")
    supervise(where, scenario=lambda stage: stage.until("worker", str(tmp_path)))
