"""Stack traces as `traceback` writes them, quickly: a worker whose tasks fail in thousands writes the same frames.

The standard library compiles the source line of every frame anew to find out what to underline, 200 us an error
(measured 2026-11, CPython 3.11). What it says of a frame depends on the place in the code only, so it is kept.

An error is anybody's code and has no bounds: 5,000 errors in a chain took 47 s of the event loop. So each part has one
here, and what is left out is said: the errors of a chain, the frames of one, the characters of a frame and of a text.
"""

from __future__ import annotations

import linecache
import traceback
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ebs.frames import users_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, TracebackType

MAX_ERRORS = 16
"""Of a chain, those raised last; of groups, whatever is in them."""
MAX_TEXT_CHARS = 100_000
"""Of what an error says."""
MAX_NOTES_CHARS = 20_000
"""Of its notes: the stack trace of a handler's process is one."""
_MAX_CHAIN = 10_000
"""Errors of a chain that are looked at."""
_FIRST_FRAMES = 10
_LAST_FRAMES = 40
_MAX_FRAME_CHARS = 1_000
_MAX_KEPT = 1_000
_MAX_KEPT_TRACES = 200
_FOLDED_FROM = 3
"""The same line again is written so often, then counted; as `traceback` does."""
_BEGIN = "Traceback (most recent call last):\n"
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE = "\nDuring handling of the above exception, another exception occurred:\n\n"

_kept: dict[tuple[str, str, int, int], str] = {}
_kept_traces: dict[tuple[int, ...], tuple[list[CodeType], str]] = {}
"""Whole traces by the codes and instructions of their frames; the codes are kept, so that no other gets their id."""


def stack_trace_of(error: BaseException) -> str:
    """Return what `traceback.format_exception` does, joined and within bounds; never raises.

    The frames of ours that lead to a user's function are left out.
    """
    try:
        return _trace(error)
    except Exception as broken:  # noqa: BLE001  # an error class, and whoever loaded its source, is anybody's code
        return f"(the stack trace of {class_name_of(error)} cannot be had: {class_name_of(broken)})\n"


def class_name_of(error: BaseException) -> str:
    """Return the name of an error's class, bounded; never raises."""
    try:
        return cut(str(type(error).__qualname__), _MAX_FRAME_CHARS)
    except Exception:  # noqa: BLE001  # a class of classes is anybody's code too
        return "an exception without a name"


def module_of(error: BaseException) -> str:
    """Return the name of the module of an error's class, bounded; never raises."""
    try:
        return cut(str(type(error).__module__), _MAX_FRAME_CHARS)
    except Exception:  # noqa: BLE001  # as above
        return "unknown"


def text_of(error: object, max_chars: int | None = None) -> str:
    """Return what `str()` makes of something, bounded where asked; never raises."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001  # an error class is anybody's code
        return f"(its text cannot be had: {class_name_of(broken)})"
    return text if max_chars is None else cut(text, max_chars)


def cut(text: str, max_chars: int) -> str:
    """Return a text, or as much of it as is allowed and how much that leaves out."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}... ({len(text) - max_chars} more characters)"


def _trace(error: BaseException) -> str:
    chain = _chain(error)
    shown = list(islice(chain, MAX_ERRORS))
    if any(isinstance(one, BaseExceptionGroup) for one, _ in shown) and _is_small(error):
        return "".join(traceback.format_exception(error))
    parts = [_frames(_shown_part(one)) + _said(one) + link for one, link in shown]
    more = sum(1 for _ in chain)
    if more:
        parts.append(f"({more} or more earlier exceptions are left out)\n\n")
    return "".join(reversed(parts))


def _shown_part(error: BaseException) -> TracebackType | None:
    part = users_part(error.__traceback__)
    # What a handler's process raises has the frames of that process in its notes.
    return part if part is not None or getattr(error, "__notes__", None) else error.__traceback__


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield an error and those before it, each with the text that leads over to the one after it."""
    seen: set[int] = set()
    link = ""
    one: BaseException | None = error
    while one is not None and id(one) not in seen and len(seen) < _MAX_CHAIN:
        yield one, link
        seen.add(id(one))
        one, link = _before(one)


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, _CAUSED
    return (None if error.__suppress_context__ else error.__context__), _MEANWHILE


def _is_small(error: BaseException) -> bool:
    """Return whether the standard library may draw a tree of groups: few errors, few frames, short texts."""
    waiting: list[BaseException] = [error]
    count = 0
    while waiting:
        one = waiting.pop()
        count += 1
        is_short = len(text_of(one, MAX_TEXT_CHARS)) + len(_notes(one)) <= _MAX_FRAME_CHARS
        if count > MAX_ERRORS or not is_short or _has_many_frames(one.__traceback__):
            return False
        waiting += [before for before in (one.__cause__, one.__context__) if before is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions[: MAX_ERRORS + 1]
    return True


def _has_many_frames(at: TracebackType | None) -> bool:
    count = 0
    while at is not None and count <= _FIRST_FRAMES:
        count += 1
        at = at.tb_next
    return at is not None


def _said(error: BaseException) -> str:
    """Return the last lines of an error's trace: its type, its text, its notes."""
    if isinstance(error, SyntaxError) and _has_small_fields(error):
        return "".join(traceback.format_exception_only(error))
    module, name = module_of(error), class_name_of(error)
    if module not in {"__main__", "builtins"}:
        name = f"{module}.{name}"
    text = text_of(error, MAX_TEXT_CHARS)
    return (f"{name}: {text}\n" if text else f"{name}\n") + _notes(error) + _members(error)


def _has_small_fields(error: SyntaxError) -> bool:
    texts = (error.msg, error.filename, error.text, *getattr(error, "__notes__", ()))
    numbers = (error.lineno, error.offset, error.end_lineno, error.end_offset)
    return all(one is None or (isinstance(one, str) and len(one) <= _MAX_FRAME_CHARS) for one in texts) and all(
        one is None or (isinstance(one, int) and 0 <= one <= _MAX_FRAME_CHARS) for one in numbers
    )


def _notes(error: BaseException) -> str:
    notes = getattr(error, "__notes__", None)
    if notes is None:
        return ""
    if not isinstance(notes, list | tuple):
        return text_of(notes, MAX_NOTES_CHARS)
    texts = ""
    for number, note in enumerate(notes):
        if len(texts) >= MAX_NOTES_CHARS:
            return f"{texts}({len(notes) - number} more notes are left out)\n"
        texts += text_of(note, MAX_NOTES_CHARS) + "\n"
    return texts


def _members(error: BaseException) -> str:
    """Return the errors of a group in short: a line for each, and where it leaves those of groups in it out."""
    if not isinstance(error, BaseExceptionGroup):
        return ""
    lines = [f"  | {class_name_of(one)}: {text_of(one, _MAX_FRAME_CHARS)}\n" for one in error.exceptions[:MAX_ERRORS]]
    more = len(error.exceptions) - len(lines)
    return "".join(lines) + (f"  | ({more} more are left out)\n" if more else "")


class _Line(NamedTuple):
    """A place in a trace, or (without one) how often the line before it came again."""

    at: TracebackType | None
    repeated: int = 0

    def text(self) -> str:
        """Return the line as it is written."""
        if self.at is None:
            return f"  [Previous line repeated {self.repeated} more time{'s' if self.repeated > 1 else ''}]\n"
        return _frame(self.at)


def _frames(at: TracebackType | None) -> str:
    """Return the frames of an error: of many the first and the last."""
    place: list[int] = []
    codes: list[CodeType] = []
    one = at
    while one is not None and len(codes) < _FIRST_FRAMES + _LAST_FRAMES:
        code = one.tb_frame.f_code
        place += (id(code), one.tb_lasti)
        codes.append(code)
        one = one.tb_next
    if one is not None:
        return _drawn_frames(at)
    kept = _kept_traces.get(key := tuple(place))
    if kept is None:
        if len(_kept_traces) >= _MAX_KEPT_TRACES:
            _kept_traces.clear()
        kept = _kept_traces[key] = codes, _drawn_frames(at)
    return kept[1]


def _drawn_frames(at: TracebackType | None) -> str:
    lines = _folded(at)
    first = list(islice(lines, _FIRST_FRAMES))
    last: deque[_Line] = deque(maxlen=_LAST_FRAMES)
    more = -_LAST_FRAMES
    for line in lines:
        last.append(line)
        more += 1
    texts = [line.text() for line in first]
    if more > 0:
        texts.append(f"  ({more} more lines are left out)\n")
    texts += [line.text() for line in last]
    return _BEGIN + "".join(texts) if texts else ""


def _folded(at: TracebackType | None) -> Iterator[_Line]:
    before: tuple[str, int, str] | None = None
    count = 0
    while at is not None:
        code = at.tb_frame.f_code
        place = (code.co_filename, at.tb_lineno, code.co_name)
        if place != before:
            if count > _FOLDED_FROM:
                yield _Line(None, count - _FOLDED_FROM)
            before, count = place, 0
        count += 1
        if count <= _FOLDED_FROM:
            yield _Line(at)
        at = at.tb_next
    if count > _FOLDED_FROM:
        yield _Line(None, count - _FOLDED_FROM)


def _frame(at: TracebackType) -> str:
    code = at.tb_frame.f_code
    # Not the code itself: two of the same source in two files are equal.
    place = (code.co_filename, code.co_qualname, at.tb_lineno, at.tb_lasti)
    text = _kept.get(place)
    if text is None:
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        text = _kept[place] = _drawn(at)
    return text


def _drawn(at: TracebackType) -> str:
    code = at.tb_frame.f_code
    line = linecache.getline(code.co_filename, at.tb_lineno, at.tb_frame.f_globals)
    if max(len(line), len(code.co_filename), len(code.co_name)) <= _MAX_FRAME_CHARS:
        return "".join(traceback.format_tb(at, limit=1))
    # A line of a megabyte, as programs write them, would be compiled to find out what to underline.
    filename, name = cut(code.co_filename, _MAX_FRAME_CHARS), cut(code.co_name, _MAX_FRAME_CHARS)
    return f'  File "{filename}", line {at.tb_lineno}, in {name}\n    {cut(line.strip(), _MAX_FRAME_CHARS)}\n'
