"""The event loop of our processes: uvloop's."""

from __future__ import annotations

import warnings

import uvloop


def use_uvloop() -> None:
    """Let every event loop of this process be uvloop's, those that Faust makes in its threads too.

    Python deprecates event loop policies, and removes them in 3.16; Faust has no other way to be given a loop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        uvloop.install()
