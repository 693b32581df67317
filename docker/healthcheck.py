"""The image's health check: asks whichever of API (8000) and worker (6066) runs in this container for /livez.

Exit code 0 if it answers 200, else 1 with the answer: Docker keeps the output (`docker inspect`). No dependency but
Python's own library, and no import of ours: it starts every ten seconds.
"""

import os
import sys
import urllib.error
import urllib.request

PORTS = ("8000", os.environ.get("EBS_WEB_PORT", "6066"))
TIMEOUT_S = 4
# A proxy of the environment has another loopback.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    """Ask the ports in turn."""
    said = ""
    for port in PORTS:
        url = f"http://127.0.0.1:{port}/livez"
        try:
            with DIRECTLY.open(url, timeout=TIMEOUT_S) as answer:
                print(answer.read().decode())  # noqa: T201  # for `docker inspect`
                return 0
        except urllib.error.HTTPError as error:
            print(f"{url}: {error.code} {error.read().decode()}")  # noqa: T201  # as above
            return 1
        except OSError as error:
            said += f"{url}: {error}\n"
    print(said, end="")  # noqa: T201  # as above
    return 1


if __name__ == "__main__":
    sys.exit(main())
