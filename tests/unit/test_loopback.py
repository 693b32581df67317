"""What is on this machine is never asked through a proxy."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from api.client import ApiClient
from api.loopback import takes_proxies

HEALTHCHECK = Path(__file__).parents[2] / "docker" / "healthcheck.py"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "[::1]", "localhost", "LOCALHOST.", "a.localhost"])
def test_loopback_is_reached_directly(host):
    """By whatever name."""
    assert not takes_proxies(f"http://{host}:8000/api")


@pytest.mark.parametrize("url", ["http://ebs.example", "http://10.0.0.1", "http://localhost.example", "x", "http://["])
def test_others_are_reached_as_the_environment_says(url):
    """A company's proxy may be the only way to them."""
    assert takes_proxies(url)


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # http.server's name
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    """Return a server on loopback, with a proxy in the environment that nobody answers."""
    found = http.server.HTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found.server_port
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def proxied(monkeypatch):
    """Name a proxy that nobody answers at."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.usefixtures("proxied")
def test_commands_ask_the_api_of_this_machine_directly(server):
    """`http_proxy` is set on many machines of companies."""
    with ApiClient(f"http://127.0.0.1:{server}") as client:
        assert {"status": "ok"} == client.get("/livez")


@pytest.mark.usefixtures("proxied")
def test_health_check_of_the_image_asks_directly(server, monkeypatch):
    """A container with a proxy would never become healthy."""
    monkeypatch.setenv("EBS_WEB_PORT", str(server))
    assert 0 == subprocess.run([sys.executable, HEALTHCHECK], check=False).returncode
