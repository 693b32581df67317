"""Writes the parts of `docs/reference/` that follow from the code, between the two marks of each page.

    .venv/bin/python docs/make_reference.py          # after a change of a setting, metric, event, route, command

`tests/unit/test_reference.py` fails if a page is not what this makes. What stands outside of the marks is written by
hand, and stays.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
for _name in [name for name in os.environ if name.startswith("EBS_")]:
    del os.environ[_name]  # the pages show the defaults

from pydantic import SecretStr  # noqa: E402  # our packages must be found first
from reference_of_users import cli_part, python_part  # noqa: E402
from reference_tables import table  # noqa: E402

from api.main import http_app  # noqa: E402
from api.service.asyncapi.document import describe  # noqa: E402
from api.service.asyncapi.records import schemas  # noqa: E402
from app.settings.settings import ProcessTime, Settings  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PAGES = ROOT / "docs" / "reference"
BEGIN = "<!-- made by docs/make_reference.py: begin -->"
END = "<!-- made by docs/make_reference.py: end -->"

_SETTING_GROUPS = {
    "broker": "Kafka and storage",
    "namespace": "Kafka and storage",
    "worker_id": "Processes",
    "tasks_per_object": "Objects",
    "process_time": "Handlers",
    "backoff_s": "Retries and dead letters",
    "drain_s": "Stopping",
    "ledger": "Statistics",
    "api_host": "API",
    "web_port": "Worker pages, logs, tracing",
    "security_protocol": "Access to Kafka",
    "api_keys_read": "Access to the API",
    "webhook_hosts": "Callbacks",
}
"""By the first setting of each stretch of a group, as they stand in the code."""

_METRIC_SOURCES = {
    "api": "API: what the whole system did",
    "agents": "Every worker: what this process knows",
    "agents/distribution.py": "Distribution workers",
    "agents/scheduler.py": "Distribution workers",
    "agents/engine": "Processing workers",
    "app": "Every process",
}
"""Who tells the metrics of a file, by the longest beginning of its path."""
_METRIC_TYPES = {"gauge": "gauge", "labelled_gauge": "gauge", "Gauge": "gauge", "counter": "counter"}
_METRIC_TYPES |= {"labelled_counter": "counter", "Histogram": "histogram", "_Duration": "histogram", "": "counter"}
_EXIT_SOURCES = ("app/streaming/application.py", "app/streaming/watchdog.py")


def settings_part() -> list[str]:
    """Return the settings by group: variable, default, range, meaning."""
    groups: dict[str, list[list[str]]] = {title: [] for title in _SETTING_GROUPS.values()}
    rows: list[list[str]] = []
    for name, field in Settings.model_fields.items():
        if name in _SETTING_GROUPS:
            rows = groups[_SETTING_GROUPS[name]]
        default = shown(field.get_default(call_default_factory=True))
        rows.append([f"`EBS_{name.upper()}`", f"`{default}`", _range(field.metadata), field.description or ""])
    head = ("variable", "default", "range", "meaning")
    return [line for title, found in groups.items() for line in (f"## {title}", "", *table(head, found))]


def shown(default: object) -> str:
    """Return a default as the table has it."""
    if isinstance(default, ProcessTime):
        return f"{default.low_s:g}-{default.high_s:g}"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "empty"
    if default is None:
        return "unset"
    return str(default or "empty") if isinstance(default, str | dict | SecretStr) else str(default)


def _range(metadata: Iterable[Any]) -> str:
    bounds = {type(one).__name__: getattr(one, type(one).__name__.lower(), None) for one in metadata}
    low, above, high = bounds.get("Ge"), bounds.get("Gt"), bounds.get("Le")
    if high is None:
        return ""
    return f"above {above:,} to {high:,}" if low is None else f"{low:,} to {high:,}"


class Metric(NamedTuple):
    """One family, as the code names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def metrics_of(path: Path) -> Iterator[Metric]:
    """Find the metrics in a source file: a name that begins with `ebs_`, with its text right behind it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call | ast.Tuple):
            continue
        arguments = node.args if isinstance(node, ast.Call) else node.elts
        words = [one.value if isinstance(one, ast.Constant) else None for one in arguments]
        places = [at for at, word in enumerate(words) if isinstance(word, str) and word.startswith("ebs_")]
        callee = getattr(node.func, "id", None) if isinstance(node, ast.Call) else ""
        if not places or len(words) == places[0] + 1 or callee not in _METRIC_TYPES:
            continue
        at = places[0]
        labels: tuple[str, ...] = ()
        if len(words) > at + 2 and isinstance(arguments[at + 2], ast.List | ast.Tuple):
            labels = tuple(one.value for one in arguments[at + 2].elts)  # type: ignore[attr-defined]
        yield Metric(str(words[at]), _METRIC_TYPES[callee], labels, str(words[at + 1]))


def metrics_part() -> list[str]:
    """Return the metrics by who tells them."""
    found: dict[str, list[list[str]]] = {title: [] for title in _METRIC_SOURCES.values()}
    for path in sorted(path for folder in ("app", "agents", "api") for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        source = max((one for one in _METRIC_SOURCES if name.startswith(one)), key=len)
        for one in metrics_of(path):
            labels = ", ".join(f"`{label}`" for label in one.labels)
            found[_METRIC_SOURCES[source]].append([f"`{one.name}`", one.kind, labels, one.text])
    head = ("name", "type", "labels", "meaning")
    return [line for title, rows in found.items() for line in (f"## {title}", "", *table(head, sorted(rows)))]


def exit_codes_part() -> list[str]:
    """Return the exit codes of workers from the constants and their docstrings."""
    found = {0: "The worker was asked to stop and has stopped."}
    for path in _EXIT_SOURCES:
        text = (ROOT / path).read_text()
        for code, meaning in re.findall(r'^EXIT_\w+ = (\d+)\n"""(.+?)"""', text, re.MULTILINE | re.DOTALL):
            found[int(code)] = meaning
    return table(("code", "meaning"), ([f"`{code}`", found[code]] for code in sorted(found)))


def topics_part() -> list[str]:
    """Return the topics, and the records with their fields."""
    document = describe(Settings(), "")
    rows = []
    for name, channel in document["channels"].items():
        config = channel["bindings"]["kafka"]["topicConfiguration"]
        writers, readers = (
            sorted({one["tags"][0]["name"] for one in document["operations"].values() if _is_of(one, name, action)})
            for action in ("send", "receive")
        )
        key = channel["description"].removeprefix("Key: ").removesuffix(".")
        rows.append([f"`{name}`", key, ", ".join(config["cleanup.policy"]), ", ".join(writers), ", ".join(readers)])
    lines = ["## Topics", "", *table(("topic", "key", "cleanup", "written by", "read by"), rows)]
    for name, channel in document["channels"].items():
        if not name.endswith("-changelog"):
            lines += [f"`{name}`", f":   {channel['summary']}.", ""]
    lines += ["## Records", ""]
    known = schemas()
    for name, message in sorted(document["components"]["messages"].items()):
        schema = known.get(message["payload"].get("$ref", "").rpartition("/")[2])
        lines += [f"### {name}", "", f"{message['summary'].rstrip('.')}.", ""]
        if schema is not None:
            lines += _fields(schema)
    return lines


def _is_of(operation: dict[str, Any], name: str, action: str) -> bool:
    return operation["action"] == action and operation["channel"]["$ref"] == f"#/channels/{name}"


def _fields(schema: dict[str, Any]) -> list[str]:
    required = set(schema.get("required", ()))
    rows = [
        [f"`{name}`", _type(field), "yes" if name in required else "no"] for name, field in schema["properties"].items()
    ]
    return table(("field", "type", "required"), rows)


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{one}`" for one in field["enum"])
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    words = [str(field.get("type", "any JSON"))]
    bounds = [("minimum", "from"), ("maximum", "to"), ("exclusiveMaximum", "below"), ("maxLength", "at most")]
    words += [f"{word} {field[name]:,}" for name, word in bounds if name in field]
    return " ".join(words) + (" characters" if "maxLength" in field else "")


def http_part() -> list[str]:
    """Return the routes by subject: what each answers, its parameters, its statuses."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in http_app.openapi()["paths"].items():
        for method, operation in operations.items():
            lines = by_tag.setdefault(operation["tags"][0], [])
            lines += [f"### {method.upper()} {path}", "", f"**{operation['summary']}.** {operation['description']}", ""]
            parameters = [
                [f"`{one['name']}`", one["in"], _type(one["schema"]), one.get("description", "")]
                for one in operation.get("parameters", ())
            ]
            if parameters:
                lines += table(("parameter", "in", "type", "meaning"), parameters)
            lines += [f"Answers: {', '.join(f'`{status}`' for status in sorted(operation['responses']))}.", ""]
    return [line for tag, lines in by_tag.items() for line in (f"## {tag.capitalize()}", "", *lines)]


PARTS: dict[str, Callable[[], list[str]]] = {
    "settings": settings_part,
    "metrics": metrics_part,
    "exit-codes": exit_codes_part,
    "topics": topics_part,
    "http": http_part,
    "cli": cli_part,
    "python": python_part,
}


def page(name: str) -> str:
    """Return a page with its made part anew."""
    text = (PAGES / f"{name}.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = "\n".join(PARTS[name]()).strip()
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    for page_name in PARTS:
        (PAGES / f"{page_name}.md").write_text(page(page_name))
