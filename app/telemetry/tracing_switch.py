"""Whether a process traces; off, nothing of OpenTelemetry is even imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.process.extras import how_to_install

if TYPE_CHECKING:
    from app.settings.settings.settings import Settings
    from app.telemetry.tracing import Tracing


def tracing_from(settings: Settings, service: str) -> Tracing | None:
    """Return what makes the spans of a service, None where none are wanted. Raises `SettingsError`."""
    if not settings.tracing:
        return None
    try:
        from app.telemetry.tracing import start_tracing  # noqa: PLC0415  # see above
    except ImportError:
        raise SettingsError(f"EBS_TRACING needs OpenTelemetry: {how_to_install('otel')}, or unset it") from None
    return start_tracing(service, settings.namespace)
