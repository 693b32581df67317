"""The reference is what the code says: each page is what `docs/make_reference.py` makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from pages import DOCS, ROOT

from app.settings.settings import Settings

SCRIPT = DOCS / "make_reference.py"
NAMES = ("settings", "metrics", "exit-codes", "topics", "http", "cli", "python")
PROGRAM = """
import json, runpy, sys
made = runpy.run_path(sys.argv[1])
print(json.dumps({name: made["page"](name) for name in made["PARTS"]}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return every page as the script makes it, in a process of its own: it forgets the settings of this one."""
    command = [sys.executable, "-c", PROGRAM, str(SCRIPT)]
    where = tmp_path_factory.mktemp("reference")
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=where, timeout=500)
    assert 0 == ran.returncode, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_page_is_what_the_script_makes(made, name):
    """Whoever changes the code, or the page by hand, is told."""
    assert made[name] == (DOCS / "reference" / f"{name}.md").read_text(), "run docs/make_reference.py"


def test_every_part_is_tested(made):
    """None is forgotten above."""
    assert set(NAMES) == set(made)


def test_settings_page_has_every_setting(made):
    """With the description of the code."""
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `EBS_{name.upper()}` \|.*$", made["settings"], re.MULTILINE)
        assert row
        assert " ".join(str(field.description).split()) in row[0]


def test_metrics_page_has_every_metric_of_the_source(made):
    """Wherever in the code one is named."""
    sources = [path for folder in ("app", "agents", "api") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'"(ebs_\w+)",\s*"', path.read_text())}
    assert "ebs_objects_moved_total" in named
    assert [] == sorted(name for name in named if f"| `{name}` |" not in made["metrics"])
