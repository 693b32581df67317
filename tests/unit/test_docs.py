"""The pages name what there is: commands with their options, settings, metrics, routes, files; their snippets run."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import typer
from app.settings.settings.security import secret_fields
from app.settings.settings.settings import Settings
from pages import ROOT, blocks, name_of, pages, spans

from api.main import http_app
from ebs.cli import cli
from ebs.cli.commands import imported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_README_LINES = 150
SHELLS = ("bash", "sh")
OTHER_VARIABLES = {"EBS_BIND", "EBS_IMAGE"}
"""Of docker/compose.yaml, not of a process."""
COMMANDS = typer.main.get_command(cli)
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""What a command raises at what it does not take; typer has no public name for it."""
LOOPBACK_URL = re.compile(r"localhost:80\d\d(/[^\s'\"`?]*)")
NOT_COMMITTED = {"docker/.env", "tests/browser/screenshots"}

every_page = pytest.mark.parametrize("page", pages(), ids=name_of)


def typed(page: Path) -> Iterator[list[str]]:
    """Return the words of each command in a page's shell blocks: what a reader copies."""
    for block in blocks(page, *SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield from _parted(shlex.split(line, comments=True))
            yield from (shlex.split(inner) for inner in re.findall(r"\$\((ebs [^|)]*)", line))


def mentioned(page: Path) -> Iterator[list[str]]:
    """Return the words of each command that a page names in passing, perhaps without its arguments."""
    for span in spans(page):
        if span.startswith(("ebs ", "make ")):
            yield shlex.split(span)


def _parted(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word in {"|", "||", "&&", ";", "&"}:
            yield part
            part = []
        elif word.startswith(">"):
            break
        elif part or re.fullmatch(r"[A-Z_0-9]+=.*", word, re.DOTALL) is None:
            part.append(word)
    if part:
        yield part


def why_refused(words: list[str]) -> str | None:
    """Return why `ebs` would not take a command that is complete, None if it would; runs nothing."""
    command: Any = COMMANDS
    context = command.make_context("ebs", words[1:])
    try:
        while rest := [*context._protected_args, *context.args]:
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
            if not getattr(command, "commands", None):
                break
    except USAGE_ERROR as error:
        return f"{shlex.join(words)}: {error}"
    return None


def what_is_unknown(words: list[str]) -> str | None:
    """Return which command or option of a mention there is not, None if all are there."""
    command: Any = COMMANDS
    rest = words[1:]
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        name, *rest = rest
        if name not in command.commands:
            return f"ebs has no command {name}"
        command = imported(name) if command is COMMANDS else command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {
        "--help",
        "-h",
        "--install-completion",
    }
    unknown = [word for word in rest if word.startswith("-") and word not in {*known, "-"}]
    return f"{shlex.join(words)}: no option {', '.join(unknown)}" if unknown else None


@every_page
def test_commands_exist_with_their_options(page):
    """Whoever copies a command gets no `No such option`."""
    refused = [why_refused(words) for words in typed(page) if words[:1] == ["ebs"]]
    unknown = [what_is_unknown(words) for words in mentioned(page) if words[0] == "ebs"]
    assert [] == [one for one in refused + unknown if one]


@pytest.mark.parametrize("text", ["ebs statsu", "ebs submit --kinds x", "ebs offsets set", "ebs offsets reset --x"])
def test_a_wrong_command_is_found(text):
    """The checks above are some."""
    assert why_refused(shlex.split(text))
    assert what_is_unknown(shlex.split(text))


@pytest.mark.parametrize("text", ["ebs discard 3-17", "ebs rate", "ebs submit --count many"])
def test_a_command_without_what_it_needs_is_found(text):
    """A reader could not run it as it stands."""
    assert why_refused(shlex.split(text))


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
    commands = [*typed(page), *mentioned(page)]
    named = {words[1] for words in commands if words[:1] == ["make"] and len(words) > 1}
    assert [] == sorted(name for name in named if name not in targets and not name.endswith("-*"))


def test_every_page_of_the_site_is_in_its_navigation():
    """A page that nobody can reach is none."""
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in pages() if (ROOT / "docs") in page.parents}


def test_readme_is_short():
    """It is a door, not the house."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_changelog_has_the_version_of_the_package():
    """Whoever raises the version says what it brings."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
