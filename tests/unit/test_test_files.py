"""Which files are tests, by their names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.process.test_files import imported_tests, is_test


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("test_work.py", True),
        ("shop/work_test.py", True),
        ("shop/conftest.py", True),
        ("tests/data.py", True),
        ("shop/test/data.py", True),
        ("shop/work.py", False),
        ("shop/tests.py", False),
        ("shop/contest.py", False),
        ("latest/work.py", False),
    ],
)
def test_a_test_is_known_by_its_name(path: str, *, expected: bool) -> None:
    """As pytest knows it, or by its folder."""
    assert expected == is_test(Path(path))


def test_imported_tests_are_those_of_the_folder() -> None:
    """Modules without a file, and those of other folders, are none of them."""
    files = ["/shop/ab_test.py", "/shop/work.py", "/lib/ab_test.py", None]
    modules = [*(SimpleNamespace(__file__=file) for file in files), None, 5]
    assert ["ab_test.py"] == imported_tests(Path("/shop"), modules)
