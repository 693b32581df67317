"""Ports that several processes ask for at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from app.local.ports import free_port, is_free

ROOT = Path(__file__).parents[2]
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
ASK = "from app.local.ports import free_port; print([free_port() for _ in range(200)], flush=True); input()"


def test_no_port_is_given_twice_though_nobody_listens_yet():
    """Processes that ask at once, and this one, get different ports: their servers need seconds to listen."""
    command = [sys.executable, "-c", ASK]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)
    ]
    try:
        given = [port for one in asking for port in map(int, one.stdout.readline().strip("[]\n").split(","))]
    finally:
        for one in asking:
            one.communicate("\n", timeout=60)
    given += [free_port() for _ in range(200)]
    assert 800 == len(set(given))
    assert all(is_free(port) for port in given)


def test_no_client_gets_a_port_that_was_given():
    """Outgoing connections take theirs from a range of their own."""
    lowest = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 49_152
    assert lowest > max(free_port() for _ in range(500))
