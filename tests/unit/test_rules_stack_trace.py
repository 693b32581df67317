"""Stack traces: to the letter what the standard library writes, whatever the error."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from app.rules import stack_trace
from app.rules.stack_trace import stack_trace_of

if TYPE_CHECKING:
    from collections.abc import Callable


def plain() -> None:
    """Raise from a line with something to underline."""
    numbers = {"a": [1, 2]}
    print(numbers["a"][0] + numbers["b"][1])


def caused() -> None:
    """Raise from another error, on purpose."""
    try:
        plain()
    except KeyError as error:
        raise ValueError("no such number") from error


def meanwhile() -> None:
    """Raise while another error is handled."""
    try:
        caused()
    except ValueError:
        raise RuntimeError("clean-up failed") from ZeroDivisionError("never raised")


def suppressed() -> None:
    """Raise without a word of what was before."""
    try:
        plain()
    except KeyError:
        raise ValueError("no such number") from None


def in_handling() -> None:
    """Raise in the handling of an error."""
    try:
        plain()
    except KeyError:
        plain()


def noted() -> None:
    """Raise with a note."""
    error = ValueError("two\nlines")
    error.add_note("of task 7")
    raise error


def grouped() -> None:
    """Raise several at once, after another one."""
    try:
        plain()
    except KeyError as error:
        raise ExceptionGroup("several", [ValueError("one"), error]) from error


def syntax() -> None:
    """Raise with a line of source in the error."""
    compile("a = (", "given.py", "exec")


def deep() -> None:
    """Raise from so deep that lines are folded."""
    deep()


def circular() -> None:
    """Raise an error that is its own cause, by a detour."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def nameless() -> None:
    """Raise from code whose source is nowhere."""
    exec("raise ValueError('from a string')", {})


CASES = [plain, caused, meanwhile, suppressed, in_handling, noted, grouped, syntax, deep, circular, nameless]


def raised(case: Callable[[], None]) -> BaseException:
    """Return what a case raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each raises another one
        case()
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_a_trace_is_what_the_standard_library_writes(case):
    """The first time, and when its frames are known."""
    for _ in range(2):
        error = raised(case)
        assert "".join(traceback.format_exception(error)) == stack_trace_of(error)


def test_an_error_that_was_never_raised_has_a_trace_too():
    """Only its last line."""
    assert "ValueError: never raised\n" == stack_trace_of(ValueError("never raised"))


def test_frames_are_told_apart_by_place_and_not_for_ever_kept():
    """Two of the same text in other files are two; a program that makes code all the time fills no memory."""
    for number in range(1_100):
        error = raised(lambda number=number: exec(compile("1 / 0", f"made-{number}.py", "exec"), {}))
        assert f'File "made-{number}.py", line 1, in <module>' in stack_trace_of(error)
    assert 1_000 >= len(stack_trace._kept)
