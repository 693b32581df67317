"""An `ebs` command imports what it needs when it runs, and its help is short and plain."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ebs.cli import cli
from ebs.cli.commands import COMMANDS, imported

ROOT = Path(__file__).parents[2]
HEAVY = {"aiokafka", "fastapi", "faust", "jgo", "mimesis", "mode", "pydantic", "rocksdict", "starlette", "uvicorn"}
"""Each of them alone takes as long as a whole command may."""
HELP = {"httpx", "asyncio", "msgspec"}
"""What the list of commands can do without, too."""
WIDTH = 80
RUN = """
import json, sys
from api.cli import main
sys.argv = ["ebs", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
"""
LOAD = """
import json, sys
from api.cli.commands import COMMANDS, imported
for entry in COMMANDS:
    imported(entry.name)
"""


def packages(code: str, *arguments: str) -> set[str]:
    """Return the top-level packages that a process has imported in the end."""
    tell = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + tell, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_list_of_commands_imports_none_of_them():
    """`ebs --help` needs typer and rich only."""
    assert set() == packages(RUN, "--help") & (HEAVY | HELP)


def test_no_command_imports_a_library_for_kafka_or_servers():
    """So the help of each command, and what completes it in a shell, come at once."""
    assert set() == packages(LOAD) & (HEAVY | {"httpx", "asyncio"})


def test_client_needs_no_more_than_http():
    """A command that asks the API starts without pydantic, too; here no API answers."""
    with socket.socket() as held:  # bound and not listening: nobody else can answer there
        held.bind(("127.0.0.1", 0))
        found = packages(RUN, "objects", "--api", f"http://127.0.0.1:{held.getsockname()[1]}")
    assert "httpx" in found
    assert set() == found & HEAVY


def test_silent_address_is_named_at_once():
    """Where packets vanish, a person hears within a second that nobody answers, and why it goes on."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = []
        try:
            # A full queue of a server that accepts nothing is where a connection gets no answer at all.
            for _ in range(8):
                filler = socket.socket()
                filler.settimeout(0)
                filler.connect_ex(address)
                fillers.append(filler)
            began_s = time.monotonic()
            with subprocess.Popen(
                [sys.executable, "-c", RUN, "objects", "--api", f"http://127.0.0.1:{address[1]}"],
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            ) as command:
                first = command.stderr.readline()
                waited_s = time.monotonic() - began_s
                command.kill()
        finally:
            for filler in fillers:
                filler.close()
    assert f"no API answers at http://127.0.0.1:{address[1]} so far" in first
    assert waited_s < 10  # 0.8 on a quiet machine


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_line_in_the_list_is_the_first_of_the_help(entry):
    """What a command says of itself is what the list says of it."""
    command = imported(entry.name)
    assert entry.line == inspect.cleandoc(command.help).split("\n")[0]


def test_list_has_one_line_for_each_command_in_panels():
    """On a terminal of 80 columns, too."""
    shown = CliRunner().invoke(cli, ["--help"], env={"COLUMNS": str(WIDTH)}).stdout
    for entry in COMMANDS:
        assert f"│ {entry.name:<12}  {entry.line} " in shown
    panels = [line.split()[1:-1] for line in shown.splitlines() if line.startswith("╭─")]
    expected = ["Options", *dict.fromkeys(entry.panel for entry in COMMANDS)]
    assert expected == [" ".join(word for word in words if "─" not in word) for words in panels]


def lines_of_commands() -> list[list[str]]:
    """Return how each command and subcommand is called."""
    found: list[list[str]] = []
    for entry in COMMANDS:
        command = imported(entry.name)
        found.append([entry.name])
        found += [[entry.name, name] for name in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("words", lines_of_commands(), ids=" ".join)
def test_help_shows_no_types_and_dash_h_is_help(words):
    """`--wait`, not `--wait <bool>`; and each option has a text."""
    shown = CliRunner().invoke(cli, [*words, "-h"], env={"COLUMNS": "200"})
    assert 0 == shown.exit_code
    assert "<" not in shown.stdout.replace("<=", "")
    assert "--install-completion" not in shown.stdout
    assert shown.stdout == CliRunner().invoke(cli, [*words, "--help"], env={"COLUMNS": "200"}).stdout


def test_unknown_command_is_answered_with_the_nearest():
    """A slip of the finger costs no look at the list."""
    refused = CliRunner().invoke(cli, ["sttus"], env={"COLUMNS": "200"})
    assert (2, True) == (refused.exit_code, "'status'" in refused.stderr)


def test_names_of_the_list_are_different():
    """A name stands for one command."""
    names = [entry.name for entry in COMMANDS]
    assert len(set(names)) == len(names)
    assert all(isinstance(imported(name), typer.core.TyperCommand | typer.core.TyperGroup) for name in names)
