"""OpenTelemetry: one trace from the HTTP request to the last event, carried by `traceparent` in the records' headers.

Off (`EBS_TRACING` not set) nothing here is imported, and no header is read or written: whoever takes a `Tracing | None`
asks once for a batch or an attempt. On, only records that carry a sampled `traceparent` make spans; workers begin no
traces of their own. Names and attributes are those of the semantic conventions for messaging, 1.36 (development).
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.errors import SettingsError
from app.process.extras import how_to_install

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiokafka.structs import ConsumerRecord
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

Headers = list[tuple[str, bytes]]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_OURS = frozenset({TRACEPARENT, TRACESTATE})
_LONGEST_HEADER_BYTES = 512
_propagator = TraceContextTextMapPropagator()


class Trace:
    """A span that goes on, and the headers that carry it to the next record."""

    __slots__ = ("_has_ended", "headers", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.headers = headers_of(span)
        self._has_ended = False

    def carry(self, headers: Iterable[tuple[str, bytes]]) -> Headers:
        """Return a record's headers with this span in place of the one that it came with."""
        return [*(header for header in headers if header[0] not in _OURS), *self.headers]

    def fail(self, error: BaseException) -> None:
        """End with an error; its text stays out of it, as it may hold anything that a task holds."""
        self.span.set_attribute("error.type", type(error).__qualname__)
        self.span.set_status(Status(StatusCode.ERROR))
        self.end()

    def end(self) -> None:
        """End, once."""
        if not self._has_ended:
            self._has_ended = True
            self.span.end()

    def context(self) -> Context:
        """Return the context in which this span is the current one."""
        return trace.set_span_in_context(self.span)


class Tracing:
    """Makes the spans of one process."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def process(
        self,
        record: ConsumerRecord,
        group_id: str,
        attributes: Mapping[str, Any] | None = None,
        began_at_ns: int | None = None,
    ) -> Trace | None:
        """Begin the span of working a record; None if nobody samples its trace."""
        parent = parent_of(record.headers)
        if parent is None:
            return None
        span = self._tracer.start_span(
            f"process {record.topic}",
            parent,
            SpanKind.CONSUMER,
            {
                **_messaging("process", record.topic, record.partition),
                "messaging.consumer.group.name": group_id,
                "messaging.kafka.offset": record.offset,
                **(attributes or {}),
            },
            start_time=began_at_ns,
        )
        return Trace(span)

    def observe(self, records: Iterable[ConsumerRecord], group_id: str, began_at_ms: int) -> None:
        """Make the spans of records that were worked together since an instant (epoch ms)."""
        for record in records:
            if record.headers:
                done = self.process(record, group_id, began_at_ns=began_at_ms * 1_000_000)
                if done is not None:
                    done.end()

    def send(self, topic: str, partition: int | None = None) -> Trace | None:
        """Begin the span of sending within the current one; None if nobody samples that."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        return Trace(
            self._tracer.start_span(f"send {topic}", None, SpanKind.PRODUCER, _messaging("send", topic, partition))
        )

    def serve(self, name: str, carrier: Mapping[str, str], attributes: Mapping[str, Any]) -> Span:
        """Begin the span of an HTTP request, within the trace that its headers name."""
        return self._tracer.start_span(name, _propagator.extract(carrier), SpanKind.SERVER, dict(attributes))


def headers_of(span: Span) -> Headers:
    """Return the headers that carry a span."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return [(name, value.encode()) for name, value in carrier.items()]


def parent_of(headers: Iterable[tuple[str, bytes | None]]) -> Context | None:
    """Return the context that a record came with, None if it has none or nobody samples it."""
    carrier = {
        name: value.decode("ascii", "replace")
        for name, value in headers
        if name in _OURS and value is not None and len(value) <= _LONGEST_HEADER_BYTES
    }
    if TRACEPARENT not in carrier:
        return None
    context = _propagator.extract(carrier)
    return context if trace.get_current_span(context).get_span_context().trace_flags.sampled else None


def _messaging(operation: str, topic: str, partition: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }
    return found if partition is None else {**found, "messaging.destination.partition.id": str(partition)}


def start_tracing(service: str, namespace: str = "") -> Tracing:
    """Export spans as the OTEL_* variables say; raises `SettingsError` with the fix where that cannot be."""
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # as above
    except ImportError:
        raise SettingsError(f"EBS_TRACING needs OpenTelemetry: {how_to_install('otel')}, or unset it") from None
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    # Sampler, limits and further attributes of the resource: the SDK reads OTEL_* itself.
    told = {"service.name": name} | ({"service.namespace": namespace} if namespace else {})
    provider = TracerProvider(resource=Resource.create(told))
    for exporter in _exporter_names():
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return Tracing(provider.get_tracer("ebs"))


def _exporter_names() -> list[str]:
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [name for name in names if name and name != "none"]


def _exporter(name: str) -> Any:
    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, protocol)
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        return found.load()()
    raise SettingsError(
        f"there is no exporter {name}: install its package, or set OTEL_TRACES_EXPORTER to otlp, console or none"
    )
