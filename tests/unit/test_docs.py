"""The pages name what there is: commands with their options, settings, metrics, routes, files; their snippets run."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import typer
from pages import ROOT, blocks, name_of, pages, spans

from api.cli import cli
from api.main import http_app
from app.security_settings import secret_fields
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_README_LINES = 150
SHELLS = ("bash", "sh")
ELLIPSIS = {"...", "…"}
OTHER_VARIABLES = {"EBS_BIND", "EBS_IMAGE", "EBS_TAG"}
"""Of docker/compose.yaml, not of a process."""
COMMANDS = typer.main.get_command(cli)
LOOPBACK_URL = re.compile(r"localhost:80\d\d(/[^\s'\"`?]*)")
NOT_COMMITTED = {"docker/.env", "tests/browser/screenshots"}

every_page = pytest.mark.parametrize("page", pages(), ids=name_of)


def shell_commands(page: Path) -> Iterator[list[str]]:
    """Return the words of each command of a page: of its shell blocks, and of what it names in passing."""
    for block in blocks(page, *SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            yield from _parted(words)
            # What $(...) runs is a command, too.
            yield from (shlex.split(inner) for inner in re.findall(r"\$\((ebs [^|)]*)", line))
    yield from (_words(span) for span in spans(page))


def _words(span: str) -> list[str]:
    try:
        return shlex.split(span)
    except ValueError:
        return []


def _parted(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word in {"|", "||", "&&", ";", "&"}:
            yield part
            part = []
        elif part or re.fullmatch(r"[A-Z_0-9]+=.*", word, re.DOTALL) is None:
            part.append(word)


def why_wrong(words: list[str]) -> str | None:
    """Return what `ebs` would not take of a command, None if it takes it or it is none of ours."""
    if not words or words[0] != "ebs":
        return None
    command: Any = COMMANDS
    rest = [word for word in words[1:] if word not in ELLIPSIS]
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        name, *rest = rest
        if name not in command.commands:
            # A group may have a default, and an argument of its own.
            return f"ebs has no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--install-completion"}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    return f"{' '.join(words)}: no option {', '.join(unknown)}" if unknown else None


@every_page
def test_commands_exist_with_their_options(page):
    """Whoever copies a command gets no `No such option`."""
    assert [] == [wrong for words in shell_commands(page) if (wrong := why_wrong(words))]


@pytest.mark.parametrize("text", ["ebs statsu", "ebs submit --kinds x", "ebs offsets set", "ebs offsets reset --x"])
def test_a_wrong_command_is_found(text):
    """The check above is one."""
    assert why_wrong(shlex.split(text))


@every_page
def test_python_snippets_run(page):
    """They compile, and all that they import is there."""
    for block in blocks(page, "python"):
        exec(compile(block.text, str(page), "exec", dont_inherit=True), {"__name__": "snippet"})


@every_page
def test_settings_exist(page):
    """A misspelt variable would be passed over in silence by every process."""
    fields = {f"EBS_{name.upper()}" for name in Settings.model_fields}
    known = fields | OTHER_VARIABLES | {f"EBS_{name.upper()}_FILE" for name in secret_fields(Settings)}
    named = set(re.findall(r"\bEBS_[A-Z0-9_]*[A-Z0-9]\b(?!\*)", page.read_text()))
    families = {name for name in named if re.search(rf"{name}_\*", page.read_text())}
    assert [] == sorted(named - families - known - {"EBS_SASL", "EBS_SSL"})


@every_page
def test_addresses_of_the_api_exist(page):
    """Each URL on this machine's API is a route, with or without /api."""
    routes = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in http_app.openapi()["paths"]]
    paths = {url.rstrip(".,") for url in LOOPBACK_URL.findall(page.read_text())} - {"/", "/docs"}
    assert [] == [
        path for path in sorted(paths) if not any(one.fullmatch(path) or one.fullmatch(f"/api{path}") for one in routes)
    ]


@every_page
def test_files_and_pictures_exist(page):
    """A path in backticks, and a picture, are in the repository."""
    named = [
        span
        for span in spans(page)
        if re.fullmatch(r"(?:app|agents|api|docker|docs|tests|ebs)/[\w./-]*", span) and "//" not in span
    ]
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    assert [] == [path for path in named if not (ROOT / path).exists() and path not in NOT_COMMITTED]
    assert [] == [path for path in pictures if not (page.parent / path).exists()]


@pytest.mark.parametrize("page", [page for page in pages() if page.parent == ROOT], ids=name_of)
def test_links_of_pages_outside_of_the_site_lead_somewhere(page):
    """The site's own links are checked by its strict build (`make check`)."""
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [] == [link for link in links if not (ROOT / link).exists()]


@every_page
def test_targets_of_make_exist(page):
    """A page that says `make x` can be followed."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in shell_commands(page) if words[:1] == ["make"] and len(words) > 1}
    assert [] == sorted(name for name in named if name not in targets and not name.endswith("-*"))


def test_every_page_of_the_site_is_in_its_navigation():
    """A page that nobody can reach is none."""
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in pages() if (ROOT / "docs") in page.parents}


def test_readme_is_short():
    """It is a door, not the house."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES
