"""The image's health check: asks whichever of API (8000) and worker (6066) runs in this container for /livez.

Exit code 0 if it answers 200, else 1 with the answer: Docker keeps the output (`docker inspect`). It starts every ten
seconds in each container, so it imports little: urllib alone takes three times the CPU time of all this.
"""

import os
import socket
import sys

PORTS = ("8000", os.environ.get("EBS_WEB_PORT", "6066"))
TIMEOUT_S = 8


def ask(port: str) -> tuple[bool, str]:
    """Return whether the answer is 200, and the answer."""
    with socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_S) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        with connection.makefile("rb") as received:
            answer = received.read().decode(errors="replace")
    head, _, body = answer.partition("\r\n\r\n")
    status = head.partition("\r\n")[0]
    return status.split()[1:2] == ["200"], f"{status} {body}"


def main(ports: tuple[str, ...]) -> int:
    """Ask the ports in turn; the first that takes a connection is the one."""
    failures = []
    for port in ports:
        try:
            is_well, said = ask(port)
        except OSError as error:
            failures.append(f"port {port}: {error}")
            continue
        print(f"port {port}: {said}")  # noqa: T201  # for `docker inspect`
        return 0 if is_well else 1
    print("\n".join(failures))  # noqa: T201  # as above
    return 1


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or PORTS))
