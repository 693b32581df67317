"""Writes dashboards/ebs.json from the table below: `python docker/grafana/make_dashboard.py`.

The JSON is what Grafana loads and nobody should edit; this is what people read and change. A test compares both, and
looks whether every metric that is named here is one that a real process exposes.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARD = Path(__file__).parent / "dashboards" / "ebs.json"
_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_COLUMNS = 24
_STAT_HEIGHT = 4
_GRAPH_HEIGHT = 8


class Panel(NamedTuple):
    """What is shown: expressions by legend, and their unit in Grafana's words."""

    title: str
    expressions: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    help: str = ""


def rates(names: str) -> dict[str, str]:
    """Return the rate of each counter of tasks; every API process tells the same, so the largest is the one."""
    return {name: f"max(rate(ebs_tasks_{name}_total[$__rate_interval]))" for name in names.split()}


def quantiles(name: str) -> dict[str, str]:
    """Return three quantiles of a histogram that every API process tells alike."""
    rate = f"max by (le) (rate({name}_bucket[$__rate_interval]))"
    return {f"p{round(q * 100)}": f"histogram_quantile({q}, {rate})" for q in (0.5, 0.95, 0.99)}


ROWS: dict[str, list[Panel]] = {
    "Is all well?": [
        Panel("Workers", {"{{role}} {{queue}}": "max by (role, queue) (ebs_workers)"}, kind="stat"),
        Panel("Objects now", {"{{state}}": "max by (state) (ebs_objects)"}, kind="stat"),
        Panel("Tasks now", {"{{state}}": "max by (state) (ebs_tasks)"}, kind="stat"),
        Panel(
            "Unaccounted tasks", {"imbalance": "max(ebs_audit_imbalance)"}, kind="stat", help="Anything but 0 is a bug"
        ),
        Panel("Dead letters to look at", {"dead": 'max(ebs_dead_letters{state="dead"})'}, kind="stat"),
        Panel(
            "Pauses", {"{{by}}": "max by (by) (ebs_pauses)"}, kind="stat", help="Those of breakers wait for a person"
        ),
        Panel("Standing still", {"workers": "sum(ebs_standing_still)"}, kind="stat", help="These end within seconds"),
    ],
    "Throughput": [
        Panel(
            "Objects a second",
            {name: f"max(rate(ebs_objects_{name}_total[$__rate_interval]))" for name in ("created", "finished")},
        ),
        Panel("Tasks a second", rates("created started finished")),
        Panel("What goes wrong, a second", rates("failed retried dead cancelled")),
    ],
    "Times": [
        Panel("Tasks wait before they start", quantiles("ebs_task_queue_wait_seconds"), "s"),
        Panel("Handlers take", quantiles("ebs_task_duration_seconds"), "s"),
        Panel("Objects take", quantiles("ebs_object_duration_seconds"), "s"),
    ],
    "Work that waits": [
        Panel("Lag", {"{{job}} {{topic}}": "sum by (job, topic) (ebs_consumer_lag)"}),
        Panel("Tasks of each queue", {"{{queue}} {{state}}": "max by (queue, state) (ebs_queue_tasks)"}),
        Panel("Taken, not committed", {"{{job}} {{topic}}": "sum by (job, topic) (ebs_commit_gap)"}),
        Panel("Tasks that wait", {"{{reason}}": "sum by (reason) (ebs_tasks_waiting)"}),
        Panel(
            "Next one due in",
            {"{{reason}}": "min by (reason) (ebs_tasks_waiting_next_due_timestamp_seconds) - time()"},
            "s",
        ),
    ],
    "Workers": [
        Panel(
            "Handlers that run",
            {
                "{{instance}}": "ebs_tasks_in_progress",
                "limit of all": "sum(ebs_tasks_in_progress_limit)",
                "left behind": "sum(ebs_handlers_abandoned)",
            },
        ),
        Panel(
            "Kinds paused by breakers, a minute", {"all": "60 * sum(rate(ebs_breaker_trips_total[$__rate_interval]))"}
        ),
        Panel(
            "Handlers left behind, a minute", {"all": "60 * sum(rate(ebs_handlers_abandoned_total[$__rate_interval]))"}
        ),
        Panel(
            "Last progress",
            {"{{job}} {{queue}}": "time() - max by (job, queue) (ebs_last_progress_timestamp_seconds)"},
            "s",
        ),
        Panel("Partitions", {"{{instance}} has": "ebs_partitions_owned", "{{instance}} works": "ebs_partitions_ready"}),
        Panel("Restore", {"{{instance}}": "ebs_recovery_ratio"}, "percentunit"),
        Panel("Kafka reachable", {"{{instance}}": "ebs_broker_reachable"}),
    ],
    "Steps": [
        Panel(
            "Transactions a second",
            {
                "{{job}}": "sum by (job) (rate(ebs_transactions_committed_total[$__rate_interval]))",
                "{{job}} aborted": "sum by (job) (rate(ebs_transactions_aborted_total[$__rate_interval]))",
            },
        ),
        Panel(
            "Step, 95 % take less than",
            {
                "{{job}}": "histogram_quantile(0.95, sum by (job, le) "
                "(rate(ebs_step_duration_seconds_bucket[$__rate_interval])))"
            },
            "s",
        ),
        Panel(
            "Records and rows a step",
            {
                "{{job}}": "sum by (job) (rate(ebs_step_records_sum[$__rate_interval])) "
                "/ sum by (job) (rate(ebs_step_records_count[$__rate_interval]))"
            },
        ),
    ],
    "API and processes": [
        Panel("The view is behind by", {"{{instance}}": "time() - ebs_view_as_of_timestamp_seconds"}, "s"),
        Panel("Records that the view has not read", {"{{instance}}": "ebs_view_lag_records"}),
        Panel(
            "Late and forgotten events, a second",
            {
                "late": "max(rate(ebs_window_late_events_total[$__rate_interval]))",
                "forgotten": "max(rate(ebs_expired_events_total[$__rate_interval]))",
            },
        ),
        Panel("CPU", {"{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"ebs-.+"}[$__rate_interval])'}),
        Panel("Memory", {"{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"ebs-.+"}'}, "bytes"),
        Panel("Versions", {"{{role}} {{version}}": "count by (role, version) (ebs_build_info)"}),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana wants it."""
    numbers = count(1)
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        panels.append({"id": next(numbers), "type": "row", "title": title, "collapsed": False, "gridPos": place})
        top += 1
        height = _STAT_HEIGHT if row[0].kind == "stat" else _GRAPH_HEIGHT
        per_line = len(row) if row[0].kind == "stat" else 3 if len(row) % 3 == 0 else 2
        width = _COLUMNS // per_line
        for index, panel in enumerate(row):
            line, column = divmod(index, per_line)
            place = {"x": column * width, "y": top + line * height, "w": width, "h": height}
            panels.append({"id": next(numbers), "gridPos": place, **describe(panel)})
        top += -(-len(row) // per_line) * height
    return {
        "uid": "ebs",
        "title": "ebs",
        "tags": ["ebs"],
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "schemaVersion": 39,
        "panels": panels,
    }


def describe(panel: Panel) -> dict[str, Any]:
    """Return a panel without its place."""
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
        for index, (legend, expression) in enumerate(panel.expressions.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
