"""A class has a name of its own: whoever reads `RunProgress` need not ask which progress is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("agents", "api", "app", "ebs")


def test_no_two_classes_of_the_system_share_a_name():
    """Private ones may: they are seen in their own file only."""
    files = defaultdict(list)
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].append(str(path.relative_to(ROOT)))
    assert len(files) > 300
    assert {} == {name: where for name, where in files.items() if len(where) > 1}
