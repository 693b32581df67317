"""A real Prometheus with our alert rules, in a hurry: a minute of theirs is a second here."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

import httpx
import yaml
from api_process import PATIENCE_S
from observed_names import RULES

from app.addresses.ports import free_port
from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BINARY = shutil.which("prometheus")


class Prometheus:
    """Scrapes `targets` (port by job name) every second; `firing` tells what fires. None of it outlives the block."""

    def __init__(self, directory: Path, targets: Mapping[str, int]) -> None:
        assert BINARY is not None, "the program prometheus is not installed: .ci/install-tools brings it"
        self._port = free_port()
        self.log_path = directory / "prometheus.log"
        (directory / "alerts.yaml").write_text(hurried(RULES.read_text()))
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": jobs,
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [
            BINARY,
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        with self.log_path.open("w") as log:
            self._process = subprocess.Popen(tethered(command), stdout=log, stderr=log)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()

    def up_count(self) -> int:
        """Return how many targets answer."""
        try:
            answer = self._client.get("/api/v1/query", params={"query": "sum(up)"})
        except httpx.TransportError:
            return 0
        if not answer.is_success:  # it listens before it has read its storage
            return 0
        found = answer.json()["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of the alerts that fire, by name."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in self._client.get("/api/v1/alerts").json()["data"]["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found


def hurried(rules: str) -> str:
    """Return the rules with seconds for minutes, 5 s where they compare with more seconds, and 100 tasks for 1,000."""
    in_seconds = re.sub(r"(?<=[\[:\s])(\d+)m\b(?=[\]:\n])", r"\1s", rules)
    compared = re.sub(r"> 1000\b", "> 100", re.sub(r"> (300|60)\b", "> 5", in_seconds))
    assert compared != in_seconds != rules
    return compared
