"""Which frames of a traceback are the user's: a person looks for those, not for the ones of ours that lead to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ebs.start import FOLDER, PACKAGE, PACKAGES

if TYPE_CHECKING:
    from types import TracebackType

_OURS = tuple(f"{folder}{os.sep}" for folder in (PACKAGE, *(f"{FOLDER}{os.sep}{name}" for name in PACKAGES)))
_STANDARD = (f"{Path(os.__file__).parent}{os.sep}", "<frozen ")


def users_part(at: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame on that is not ours or the standard library's; None without one."""
    while at is not None and _leads_to_users(at.tb_frame.f_code.co_filename):
        at = at.tb_next
    return at


def _leads_to_users(filename: str) -> bool:
    return filename.startswith(_OURS) or (filename.startswith(_STANDARD) and "site-packages" not in filename)
