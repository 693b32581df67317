"""What is on this machine is never asked through a proxy."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ebs.cli.client import ApiClient
from ebs.client.loopback import takes_proxies

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
    status = 200

    def do_GET(self):  # http.server's name
        self.send_response(self.status)
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
@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_health_check_of_the_image_is_the_answer_of_what_runs_in_it(server, monkeypatch, status, exit_code):
    """It asks directly: a container with a proxy would never become healthy."""
    monkeypatch.setattr(_Answer, "status", status)
    argv = [sys.executable, "-I", "-S", HEALTHCHECK, "1", str(server)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert exit_code == done.returncode
    assert f"port {server}: HTTP/1.0 {status}" in done.stdout
    assert '{"status":"ok"}' in done.stdout


def test_health_check_says_when_nothing_listens():
    """Nothing does yet, or no more."""
    done = subprocess.run([sys.executable, HEALTHCHECK, "1"], capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "port 1: " in done.stdout
