"""What functions and clients hand over, as JSON: all that msgspec can write, and pydantic models."""

from __future__ import annotations

from typing import Any

import msgspec


def _form_of(value: Any) -> Any:
    """Return the form in JSON of what msgspec does not know; pydantic itself is not imported for that."""
    if isinstance(value, tuple | frozenset):  # anywhere else, it is written as a list
        raise TypeError(f"the keys of a dict are texts or numbers, and one is a {type(value).__name__}")
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(
            f"{type(value).__name__} has no form in JSON: use dicts, lists, texts, numbers, dataclasses, "
            "msgspec structs or pydantic models"
        )
    return dump(mode="json")


encode_json = msgspec.json.Encoder(enc_hook=_form_of).encode
