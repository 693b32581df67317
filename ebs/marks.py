"""Marks that say where a handler runs; a handler without one runs in the event loop or, if it is plain, in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebs.context import Context
    from ebs.task import Task

    Handler = Callable[[Task, Context], Any]

__all__ = ["cpu_bound", "inline"]

_AnyHandler = TypeVar("_AnyHandler", bound="Handler")


def inline(handler: _AnyHandler) -> _AnyHandler:
    """Mark a plain function that returns at once: it is called in the event loop, without a thread or a task.

    It has no time limit and cannot be cancelled, for nothing else runs meanwhile.
    """
    handler.ebs_inline = True  # type: ignore[attr-defined]  # a mark, read by `is_inline`
    return handler


def is_inline(handler: object) -> bool:
    """Return whether a handler was marked with `inline`."""
    return getattr(handler, "ebs_inline", False)


def cpu_bound(handler: _AnyHandler) -> _AnyHandler:
    """Mark a plain function that computes: it runs in another process, where it may take a whole CPU.

    The process imports the handler's module itself: what the module keeps in memory is not shared with the worker.
    """
    handler.ebs_cpu_bound = True  # type: ignore[attr-defined]  # a mark, read by `is_cpu_bound`
    return handler


def is_cpu_bound(handler: object) -> bool:
    """Return whether a handler was marked with `cpu_bound`."""
    return getattr(handler, "ebs_cpu_bound", False)
