"""Templates to HTML; everything is escaped but what the templates write themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.dashboard import words
from ebs.client.segments import segment

_HERE = Path(__file__).parent
STATIC = _HERE / "static"

NAVIGATION = (
    ("/", "Overview"),
    ("/objects", "Objects"),
    ("/statistics/windows", "Windows"),
    ("/workers", "Workers"),
    ("/waiting", "Waiting"),
    ("/schedules", "Schedules"),
    ("/dead-letters", "Dead letters"),
    ("/control", "Control"),
    ("/submit", "Submit"),
)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "sentence": lambda text: text[:1].upper() + text[1:],
        "segment": segment,
        "page": lambda link: link.removeprefix("/api"),
        "number": words.number,
        "rate": words.rate,
        "duration": words.duration,
        "moment": words.moment,
        "day_and_moment": words.day_and_moment,
        "to_the_ms": words.to_the_ms,
        "ago": words.ago,
        "until": words.until,
        "pretty": words.pretty,
        "compact": words.compact,
    }
    environment.globals |= {"navigation": NAVIGATION, "version": _version(), "system": ""}
    return environment


def _version() -> str:
    """Return a name for the static files as they are, so that no browser mixes old and new ones."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


_templates = _environment()


def draw(template: str, context: dict[str, Any], *, fragment: bool = False) -> str:
    """Return a page, or only its live part."""
    return _templates.get_template(template).render(context | {"fragment": fragment})
