"""How the lives of a partition's owners ended: what tells a task that ends its worker from those that ran beside it.

Each commit of a partition names the group member that made it, and how many lives before this one ended badly without
a better one between. Who claims the partition compares that name with the group's members: an owner that is not among
them, and has not said that it leaves, died with the partition in hand. So the count follows the partition to whatever
worker has it next.

| deaths | the next owner |
| --- | --- |
| 0 | commits, before the first task that it starts, that it has the partition |
| 1 | is careful: each task begins after the commit that says so; if this life ends too, its last tasks are known |
| 2 and more | is careful, and runs what earlier lives began apart, where a task can end itself only |

It is careful, and deaths are remembered, until what the dead owner may have begun is done.

Encoding: behind the progress in the commit's metadata, ";", the last characters of the member id, ".", the count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_LIFE_BYTES = 16
"""Of what a commit's metadata says of lives."""
SUSPICIOUS_DEATHS = 2
"""One death may be anything, such as a machine that is gone; the second one in a row was probably one of its tasks."""
_NAME_CHARS = 12
"""Of a member id that count: the end of the UUID in it."""
_MAX_DEATHS = 99
_LIFE = re.compile(r";(?P<name>[^;.]{0,12})\.(?P<deaths>\d{1,2})\Z", re.ASCII)


class Life(NamedTuple):
    """An owner's life: its name ("": it left as it should, or there was none), and the deaths in a row before it."""

    name: str = ""
    deaths: int = 0


def name_of(member_id: str) -> str:
    """Return the name of the life that a group member is."""
    return member_id[-_NAME_CHARS:].replace(";", "-").replace(".", "-")


def split(metadata: str) -> tuple[str, Life]:
    """Return a commit's metadata without what it says of lives, and that."""
    found = _LIFE.search(metadata)
    if found is None:
        return metadata, Life()
    return metadata[: found.start()], Life(found["name"], int(found["deaths"]))


def join(progress: str, life: Life) -> str:
    """Return the metadata of a commit."""
    return f"{progress};{life.name}.{life.deaths}" if life.name or life.deaths else progress


def follow(former: Life, member_id: str, members: Collection[str] | None) -> Life:
    """Return the life of a new owner; `members` are the ids of the group's members, None if that is not known."""
    is_dead = members is not None and former.name and former.name not in map(name_of, members)
    return Life(name_of(member_id), min(former.deaths + bool(is_dead), _MAX_DEATHS))
