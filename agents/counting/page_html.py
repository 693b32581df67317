"""The pages for people: the same as the JSON, as plain tables; no script, nothing fetched from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem; color-scheme: light dark }
table { border-collapse: collapse; margin: .5rem 0 1rem; display: block; overflow-x: auto }
caption { text-align: left; font-weight: 600 } th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap }
th { border-bottom: 1px solid } td:first-child, th:first-child { text-align: left }
"""
_PAGES = (("/windows/", "windows"), ("/ledger/", "ledger"))


def render_page(title: str, told: Mapping[str, Any]) -> str:
    """Return the data of a page as HTML: plain values in one table, each list or dictionary of rows in another."""
    links = " | ".join(_link(path, name) for path, name in _PAGES)
    parts = [f"<h1>{escape(title)}</h1><nav>{links}</nav>"]
    tables = {name: value for name, value in told.items() if name in {"totals", "windows", "objects", "tasks"}}
    plain = {name: value for name, value in told.items() if name not in tables and not isinstance(value, dict)}
    parts.append(_facts([(name, _text(name, value)) for name, value in plain.items()]))
    parts += [_listed(name, value) for name, value in tables.items()]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    viewport = '<meta name=viewport content="width=device-width">'
    return f"{head}{viewport}<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"


def _listed(name: str, listed: Any) -> str:
    items = [{"kind": kind, **one} for kind, one in listed.items()] if isinstance(listed, dict) else listed
    if not items:
        return f"<p>{escape(name)}: none here.</p>"
    rows = [_flat(item) for item in items]
    headings = list(rows[0])
    cells = [[_cell(name, heading, row.get(heading)) for heading in headings] for row in rows]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    head = "".join(f"<th scope=col>{escape(heading)}</th>" for heading in headings)
    return f"<table><caption>{escape(name)}</caption><tr>{head}</tr>{body}</table>"


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item with what is nested in it under names of both."""
    flat: dict[str, Any] = {}
    for name, value in item.items():
        if isinstance(value, dict):
            flat |= {f"{name.removesuffix('_ms')} {inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return flat


def _cell(listed: str, heading: str, value: Any) -> str:
    if (listed, heading) == ("objects", "id"):
        return _link(f"/ledger/{quote(value, safe='')}/", value)
    return escape(_text(heading, value))


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in {"start_ms", "end_ms"} or name.endswith("_at_ms"):
        return datetime.fromtimestamp(value / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{lines}</table>"


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{escape(text)}</a>'
