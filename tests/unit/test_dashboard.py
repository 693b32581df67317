"""What is shipped for Prometheus and Grafana fits together: generated, documented, named alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from observed_names import alerts, metric_names

_ROOT = Path(__file__).parents[2]
_GRAFANA = _ROOT / "docker" / "grafana"


def test_dashboard_is_what_its_generator_writes(tmp_path):
    """Whoever edits the JSON by hand, or forgets to generate, is told."""
    program = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['text']())"
    generator = str(_GRAFANA / "make_dashboard.py")
    ran = subprocess.run(
        [sys.executable, "-c", program, generator], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ran.stdout == (_GRAFANA / "dashboards" / "ebs.json").read_text(), "run docker/grafana/make_dashboard.py"


def test_panels_do_not_overlap():
    """Each has its place and its number; those of a line fill it at most."""
    panels = json.loads((_GRAFANA / "dashboards" / "ebs.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len(panels) == len({panel["id"] for panel in panels})


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_says_what_it_means_and_what_to_do(alert):
    """Summary, description, severity, and a runbook that is a heading of its page."""
    said = alert["annotations"]
    assert all(said[name] for name in ("summary", "description"))
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert f"docs/runbooks.md#{alert['alert'].lower()}" == said["runbook"]
    assert f"\n## {alert['alert']}\n" in (_ROOT / "docs" / "runbooks.md").read_text()


def test_each_alert_has_a_test_that_fires_and_one_that_does_not():
    """`promtool test rules` runs them: `make check`."""
    tests = yaml.safe_load((_ROOT / "docker" / "prometheus" / "alerts.test.yaml").read_text())["tests"]
    looks = [look for test in tests for look in test["alert_rule_test"]]
    fires = {look["alertname"] for look in looks if look["exp_alerts"]}
    silent = {look["alertname"] for look in looks if not look["exp_alerts"]}
    names = {alert["alert"] for alert in alerts()}
    assert (names, names) == (fires, silent)


def test_each_metric_that_is_used_is_in_the_reference():
    """The table of metrics has them all."""
    reference = (_ROOT / "docs" / "reference" / "metrics.md").read_text()
    own = {name for name in metric_names() if name.startswith("ebs_")}
    families = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in own}
    assert [] == sorted(name for name in families if f"`{name}`" not in reference)
