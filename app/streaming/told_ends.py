"""Where the changelogs of a partition ended after a step: kept beside its offsets, so that a lost tail is noticed.

A broker can lose the newest records of a log (its machine lost power, or a replica that lagged became the leader). The
log is shorter then, and a table that is restored from it lacks rows. Nothing in the log itself says so. The offsets of
the step lie in another log, so each commit says there how long the changelogs must be.

Encoding: at the end of the commit's metadata, ";e=", and for each table its name, ":" and the end, divided by ",".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LOST = (1 << 63) - 1
"""The end of a changelog that a running worker found too short: no log is that long, so a person must decide."""
_ENDS = re.compile(r";e=(?P<ends>[\w-]+:\d{1,19}(,[\w-]+:\d{1,19})*)\Z", re.ASCII)


def split_ends(metadata: str) -> tuple[str, dict[str, int]]:
    """Return a commit's metadata without what it says of changelogs, and that: ends by table."""
    found = _ENDS.search(metadata)
    if found is None:
        return metadata, {}
    pairs = (one.split(":") for one in found["ends"].split(","))
    return metadata[: found.start()], {table: int(end) for table, end in pairs}


def join_ends(metadata: str, ends: Mapping[str, int]) -> str:
    """Return the metadata of a commit, after which the changelogs of these tables have these ends."""
    return f"{metadata};e={','.join(f'{table}:{end}' for table, end in sorted(ends.items()))}" if ends else metadata
