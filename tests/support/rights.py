"""The rights that the documentation's table of Kafka users lists, as a broker takes them."""

from __future__ import annotations

import re

from pages import OWN_KAFKA

_KINDS = ("topic", "topic", "group", "transactional id")
_OPERATIONS = (("Read",), ("Write",), ("Read", "Describe"), ("Write", "Describe"))


def rights_of(user: str) -> list[tuple[str, str, str]]:
    """Return a user's rights: kind of resource, name (`x*`: all that begin so), operation."""
    lines = OWN_KAFKA.read_text().splitlines()
    rows = {cells[0].strip(" `"): cells for cells in map(_cells, lines) if len(cells) == 5}
    rights = [
        ("topic", name, operation) for name in _names(rows["all"][1]) for operation in ("Describe", "DescribeConfigs")
    ]
    if user == "ebs-topics":
        rights.append(("cluster", "kafka-cluster", "Create"))
    for cell, kind, operations in zip(rows[user][1:], _KINDS, _OPERATIONS, strict=True):
        # A cell that needs less than its column begins with it.
        wanted = ("Describe",) if cell.strip().startswith("Describe:") else operations
        rights += [(kind, name, operation) for name in _names(cell) for operation in wanted]
    return rights


def _cells(line: str) -> list[str]:
    return line.strip().strip("|").split("|") if line.startswith("|") else []


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
