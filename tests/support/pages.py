"""The pages of the documentation, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OWN_KAFKA = DOCS / "how-to" / "own-kafka.md"
"""The page with the table of Kafka users."""
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Block(NamedTuple):
    """A fenced block: its language, its title, its lines."""

    language: str
    title: str
    text: str


def pages() -> list[Path]:
    """Return every page that a reader may open first or last."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return how a test calls a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """Return the fenced blocks of a page, without their indentation."""
    for match in _FENCE.finditer(page.read_text()):
        if match["language"] in languages:
            indent = len(match["indent"])
            text = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
            yield Block(match["language"], match["title"] or "", text)


def spans(page: Path) -> Iterator[str]:
    """Return what stands in single backticks, each in one line."""
    for match in _SPAN.finditer(_FENCE.sub("", page.read_text())):
        yield " ".join(match[1].split())
