"""Stack traces: to the letter what the standard library writes, within bounds whatever the error."""

from __future__ import annotations

import contextvars
import functools
import linecache
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from app.rules import stack_trace
from app.rules.dead_letters import Origin, dead_letter_headers
from app.rules.stack_trace import stack_trace_of
from ebs.start import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def led_by_us(function: Callable[[], None]) -> None:
    """Call a function from a frame of the engine, by way of the standard library."""
    names: dict[str, Any] = {"function": function, "Context": contextvars.copy_context}
    exec(compile("Context().run(function)", f"{FOLDER}/agents/engine/engine.py", "exec"), names)


def raised_by(function: Callable[[], None]) -> BaseException:
    """Return what a function raises, as the engine catches it: without a frame of this test."""
    error = raised(lambda: led_by_us(function))
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def test_frames_of_ours_that_lead_to_a_function_are_left_out():
    """What a person looks for is the first line, not the eighth; also where an error has another one for a cause."""
    for function in (plain, caused):
        trace = stack_trace_of(raised_by(function))
        assert "engine.py" not in trace
        assert trace.splitlines()[1].startswith(f'  File "{__file__}"')


def test_an_error_without_a_frame_of_the_users_has_those_of_ours():
    """Such as a result that is no JSON; what comes out of another process has its frames in a note."""
    error = raised_by(functools.partial(exec, compile("1 / 0", f"{FOLDER}/agents/x.py", "exec")))
    assert "engine.py" in stack_trace_of(error)
    error.add_note("Traceback of the process")
    assert "ZeroDivisionError: division by zero\nTraceback of the process\n" == stack_trace_of(error)


def test_an_error_that_was_never_raised_has_a_trace_too():
    """Only its last line."""
    assert "ValueError: never raised\n" == stack_trace_of(ValueError("never raised"))


def test_frames_differ_by_place_and_not_for_ever_kept():
    """Two of the same text in other files are two; a program that makes code all the time fills no memory."""
    for number in range(1_100):
        error = raised(lambda number=number: exec(compile("1 / 0", f"made-{number}.py", "exec"), {}))
        assert f'File "made-{number}.py", line 1, in <module>' in stack_trace_of(error)
    assert 1_000 >= len(stack_trace._kept)


BOUND_CHARS = 1_500_000


def chained(length: int, *, cause: bool) -> BaseException:
    """Return the last of errors that were each raised while the one before was handled."""
    before: BaseException | None = None
    for number in range(length):
        error = raised(plain) if number % 100 == 0 else ValueError(f"number {number}")
        if cause:
            error.__cause__ = before
        else:
            error.__context__ = before
        before = error
    assert before is not None
    return before


class Loud(ValueError):
    """An error with a text of many megabytes."""

    def __str__(self) -> str:
        return "x" * 20_000_000


class Mute(ValueError):
    """An error whose text cannot be had, for a reason that is no `Exception`."""

    def __str__(self) -> str:
        raise GeneratorExit


class Shy(type):
    """A class of classes that hides their names."""

    def __getattribute__(cls, name: str) -> object:
        if name in {"__qualname__", "__module__"}:
            raise LookupError("no name")
        return super().__getattribute__(name)


class Nameless(ValueError, metaclass=Shy):
    """An error whose class has no name."""


def noted_with(*notes: object) -> BaseException:
    """Return an error with notes that nobody checked."""
    error = ValueError("noted")
    error.__notes__ = list(notes)  # type: ignore[assignment]  # as a program may do
    return error


def nested_groups(depth: int) -> BaseException:
    """Return groups in groups, each with many errors."""
    inner: Exception = ValueError("innermost")
    for number in range(depth):
        inner = ExceptionGroup(f"group {number}", [inner, *(ValueError(f"beside {one}") for one in range(100))])
    return inner


def syntax_error(**fields: object) -> BaseException:
    """Return a SyntaxError whose fields were set afterwards."""
    error = SyntaxError("bad", ("given.py", 1, 1, "a = (", 1, 5))
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def mutual(depth: int) -> None:
    """Recurse by two functions in turn, so that no line comes twice in a row."""
    if not depth:
        raise ValueError("the bottom")
    mutual_again(depth - 1)


def mutual_again(depth: int) -> None:
    """Be the other function."""
    mutual(depth)


def long_line() -> None:
    """Raise from a line of a megabyte."""
    source = "1 / 0 " + "+ 1" * 300_000
    name = "f" * 100_000 + ".py"
    linecache.cache[name] = (len(source), None, [source], name)
    exec(compile(source, name, "exec"), {})


def from_a_loader_that_fails() -> None:
    """Raise from code whose loader raises when it is asked for the source."""

    class Loader:
        def get_source(self, _name: str) -> str:
            raise ValueError("no source")

    exec(compile("1 / 0", "made.py", "exec"), {"__loader__": Loader(), "__name__": "made"})


def monsters() -> Iterator[tuple[str, Callable[[], BaseException]]]:
    """Yield errors without bounds, by name."""
    yield "contexts", lambda: chained(5_000, cause=False)
    yield "causes", lambda: chained(20_000, cause=True)
    yield "loud", Loud
    yield "mute", Mute
    yield "nameless", lambda: Nameless("x")
    yield "loud in a group", lambda: ExceptionGroup("g", [Loud(), Mute(), Nameless("x")])
    yield "many notes", lambda: noted_with(*["note"] * 1_000_000)
    yield "a long note", lambda: noted_with("n" * 20_000_000)
    yield "notes of anything", lambda: noted_with(Mute(), 5, None)
    yield "a wide group", lambda: ExceptionGroup("wide", [ValueError(str(one)) for one in range(200_000)])
    yield "a deep group", lambda: nested_groups(100)
    yield "a long line of source", lambda: raised(long_line)
    yield "a loader that fails", lambda: raised(from_a_loader_that_fails)
    yield "mutual recursion", lambda: raised(lambda: mutual(400))
    yield "a long syntax error", lambda: syntax_error(text="x" * 20_000_000)
    yield "a far offset", lambda: syntax_error(offset=10**9, end_offset=10**10)
    yield "an offset that is none", lambda: syntax_error(offset="here", end_offset=-5, lineno=10**400)
    yield "a long name", lambda: type("N" * 1_000_000, (ValueError,), {})("x")


@pytest.mark.parametrize(("name", "make"), [pytest.param(*one, id=one[0]) for one in monsters()])
def test_no_error_costs_more_than_a_moment(name, make):
    """5,000 errors in a chain took 47 s of the event loop. Whatever an error is: a bounded text, in bounded time."""
    error = make()
    began_s = time.process_time()
    text = stack_trace_of(error)
    headers = dead_letter_headers(Origin("task-requests", 0, 5, 7), error, attempts=1)
    took_s = time.process_time() - began_s
    assert took_s < 1.0, name
    assert 0 < len(text) < BOUND_CHARS
    assert sum(len(key) + len(value) for key, value in headers) < 100_000


def test_what_is_left_out_of_a_chain_is_said():
    """The errors that were raised last are written, and how many there were before."""
    text = stack_trace_of(chained(5_000, cause=False))
    assert text.startswith("(4984 or more earlier exceptions are left out)\n\n")
    assert text.endswith("ValueError: number 4999\n")
    assert 15 == text.count("During handling of the above exception, another exception occurred:")


def test_what_is_left_out_of_a_deep_trace_is_said():
    """Its first frames, where the call came from, and its last, where it failed."""
    text = stack_trace_of(raised(lambda: mutual(400)))
    assert "more lines are left out)" in text
    assert 50 == text.count("  File ")
    assert text.index("in raised") < text.index("left out") < text.index("the bottom")
