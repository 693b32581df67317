"""The names of metrics that alert rules and dashboard go by."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

_DOCKER = Path(__file__).parents[2] / "docker"
RULES = _DOCKER / "prometheus" / "alerts.yaml"
_NAME = re.compile(r"\b(?:ebs|process)_[a-z0-9_]+")


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metric_names() -> set[str]:
    """Return every name in an expression of theirs."""
    dashboard = json.loads((_DOCKER / "grafana" / "dashboards" / "ebs.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return {
        name for expression in [*shown, *(alert["expr"] for alert in alerts())] for name in _NAME.findall(expression)
    }
