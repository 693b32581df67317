"""Ports that several processes ask for at the same time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from app.addresses.ports import free_port, holder_of, is_free
from app.addresses.web_ports import reserve_web_port

ROOT = Path(__file__).parents[2]
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
ASK = "from app.addresses.ports import free_port; print([free_port() for _ in range(200)], flush=True); input()"


def test_holder_of_a_port_is_named():
    """By its process and command; of a port that is free there is none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f" (process {os.getpid()}: " in holder_of(port)
    assert "" == holder_of(port)


def test_no_port_is_given_twice_though_nobody_listens_yet():
    """Processes that ask at once, and this one, get different ports: their servers need seconds to listen."""
    command = [sys.executable, "-c", ASK]
    asking = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)
    ]
    try:
        given = [port for one in asking for port in map(int, one.stdout.readline().strip("[]\n").split(","))]
        given += [free_port() for _ in range(200)]  # while they live: the kernel takes back what they claimed
        free = [is_free(port) for port in given]
    finally:
        for one in asking:
            one.communicate("\n", timeout=60)
    assert 800 == len(set(given))
    assert all(free)


def test_no_client_gets_a_port_that_was_given():
    """Outgoing connections take theirs from a range of their own."""
    lowest = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 49_152
    assert lowest > max(free_port() for _ in range(500))


RESERVE = (
    "import sys; from app.addresses.web_ports import reserve_web_port as r; print(r(int(sys.argv[1])), flush=True)"
)
RESERVE += "; input()"


def test_systems_that_start_at_once_get_different_web_ports():
    """A port is kept from others before its worker listens, and free again when the process that reserved it ends."""
    first = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", RESERVE, str(first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert first == int(process.stdout.readline())
        assert is_free(first)
        second = reserve_web_port(first)
        assert second is not None
        assert second > first
    finally:
        process.communicate("\n", timeout=60)
    assert first == reserve_web_port(first)
    assert second != reserve_web_port(second)


def test_ports_end_somewhere():
    """Behind the last one there is none."""
    assert reserve_web_port(65_536) is None
