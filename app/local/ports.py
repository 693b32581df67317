"""Free ports of the loopback address."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
_MAX_PORT = 65_535


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server could listen on a port now."""
    try:
        _bind(port, host)
    except OSError:
        return False
    return True


def free_port(first: int = 0, host: str = LOOPBACK) -> int:
    """Return the first port from `first` on that is free, or any free one for 0. Raises OSError if there is none."""
    if first == 0:
        return _bind(0, host)
    for port in range(first, _MAX_PORT + 1):
        if is_free(port, host):
            return port
    raise OSError(f"no port of {host} from {first} on is free")


def _bind(port: int, host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: connections of a server that has just gone linger in TIME_WAIT and do no harm.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
