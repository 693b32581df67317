"""How every process of ours writes its log: `2026-11-27 23:15:01,123 WARNING agents.processing: ...`."""

from __future__ import annotations

from typing import Any

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold_red"}


def faust_logging() -> dict[str, Any]:
    """Return Faust's setting `logging_config`: its own set-up with our format, in colours on a terminal.

    Its class of formatters fills in what Faust's own loggers hand over.
    """
    colored = {
        "()": "mode.utils.logging.ExtensionFormatter",
        "fmt": LOG_FORMAT.replace("%(message)s", "%(log_color)s%(message)s"),
        "log_colors": _COLOURS,
    }
    return {"merge": True, "formatters": {"colored": colored}}
