"""Tracing: what headers mean, and what stays away while it is off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from app.settings.settings.settings import Settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from app.errors import SettingsError
from app.telemetry.tracing import Trace, parent_of, start_tracing
from app.telemetry.tracing_switch import tracing_from

ROOT = Path(__file__).parents[2]
SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_sampled_parent_is_found():
    """The context of a record is the span that its header names, with the vendor's state."""
    context = parent_of([("a", b"b"), ("traceparent", SAMPLED), ("tracestate", b"vendor=1")])
    found = trace.get_current_span(context).get_span_context()
    assert ("b7ad6b7169203331", "1") == (f"{found.span_id:016x}", found.trace_state.get("vendor"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("tracestate", b"vendor=1")],
        [("traceparent", None)],
        [("traceparent", b"")],
        [("traceparent", b"rubbish")],
        [("traceparent", b"\xff" * 55)],
        [("traceparent", SAMPLED[:-2] + b"00")],
        [("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")],
    ],
)
def test_headers_that_nobody_samples_make_no_span(headers):
    """Whatever an outside producer writes."""
    assert None is parent_of(headers)


def test_state_that_is_too_long_is_left_out():
    """It would be copied into every record that follows; the trace goes on without it."""
    context = parent_of(
        [
            ("traceparent", SAMPLED),
            ("tracestate", b",".join(b"v%d=1" % number for number in range(30)) + b",vendor=" + b"1" * 450),
        ]
    )
    assert None is trace.get_current_span(context).get_span_context().trace_state.get("vendor")


def test_next_record_hangs_on_this_span_and_keeps_its_other_headers():
    """The span's header takes the place of the one that the record came with."""
    traced = Trace(TracerProvider().get_tracer("test").start_span("one"))
    carried = traced.carry([("traceparent", SAMPLED), ("mine", b"1")])
    assert ["mine", "traceparent"] == [name for name, _ in carried]
    assert f"{traced.span.get_span_context().span_id:016x}".encode() in dict(carried)["traceparent"]


def test_unknown_exporter_is_refused_with_the_fix(monkeypatch):
    """A slip in the variable's name must not look like a system without traffic."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "jaegre")
    with pytest.raises(SettingsError, match="there is no exporter jaegre: install its package, or set"):
        start_tracing("test")


@pytest.mark.parametrize("module", ["agents.distribution", "agents.statistics", "agents.processing"])
def test_worker_imports_nothing_of_it_while_it_is_off(module):
    """Off is the default, and costs not even an import."""
    assert None is tracing_from(Settings(), "test")
    code = f"import sys, {module}; print(any(name.startswith('opentelemetry') for name in sys.modules))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=100
    )
    assert "False" == done.stdout.strip()
