"""Free ports of the loopback address."""

from __future__ import annotations

import atexit
import random
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
_MAX_PORT = 65_535
_OWN_PORTS = range(20_000, 32_768)
"""Below those that systems take for outgoing connections (Linux from 32,768, others from 49,152): a client that tries
again and again to reach a server of ours that is down would end up with the server's own port, and keep it."""
_BLOCK = 64
_LISTENS = "0A"
_MAX_COMMAND_CHARS = 100


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server could listen on a port now."""
    try:
        _bind(port, host)
    except OSError:
        return False
    return True


def holder_of(port: int) -> str:
    """Return who listens on a port, as " (process 123: python -m http.server)"; "" if that cannot be known.

    Linux tells it of the processes of the same user, and root of all.
    """
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net", table), port)}
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) in wanted for entry in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f" (process {process.name}: {command[:_MAX_COMMAND_CHARS]})"
        except OSError:
            continue  # it is another user's, or has just ended
    return ""


def _listening(table: Path, port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, by a table of Linux."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
        if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
            yield inode


def free_port(first: int = 0, host: str = LOOPBACK) -> int:
    """Return the first port from `first` on that is free; for 0 one that is free and given to nobody else.

    A server may take seconds until it listens: what 0 gives, no other call gives, in this process or (on Linux) in any
    other that asks here. Raises OSError if there is none.
    """
    ports = range(first, _MAX_PORT + 1) if first else _own_ports
    for port in ports:
        if is_free(port, host):
            return port
    raise OSError(f"no port of {host} from {first or _OWN_PORTS[0]} on is free")


def _ports_of_this_process() -> Iterator[int]:
    blocks = list(_OWN_PORTS[::_BLOCK])
    random.SystemRandom().shuffle(blocks)  # not `random` itself, which tests seed alike in several processes
    for first in blocks:
        if _claim(first):
            yield from range(first, min(first + _BLOCK, _OWN_PORTS[-1] + 1))


def _claim(first: int) -> bool:
    """Claim a block of ports by a name that the kernel gives to one process at a time, and takes back when it ends."""
    if sys.platform != "linux":  # there are no abstract names elsewhere; the shuffling must do
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0ebs-ports-{first}")
    except OSError:
        claim.close()
        return False
    atexit.register(claim.close)
    return True


def _bind(port: int, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: connections of a server that has just gone linger in TIME_WAIT and do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


_own_ports = _ports_of_this_process()
