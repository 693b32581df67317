"""The README tells what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import ProcessTime, Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings_table_has_every_variable_with_its_default(name: str) -> None:
    """Each setting has its row: variable, default, meaning, as in `app/settings.py`."""
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    assert f"| `EBS_{name.upper()}` | `{shown(default)}` | {field.description} |" in README


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
