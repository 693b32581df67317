"""The base of all errors, and the errors that a handler raises: `Retry` for another attempt, `Reject` for none."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EbsError", "ProjectRefused", "Reject", "Retry", "SettingsError"]


class EbsError(Exception):
    """Base of all errors of ebs. The message is a sentence for people."""


class SettingsError(EbsError):
    """A setting is missing, malformed or contradicts another one."""


class ProjectRefused(EbsError):
    """A project cannot be used or found; the message names the function and what to change."""


class Reject(EbsError):
    """The task can never succeed. It is not retried; it becomes a dead letter with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(EbsError):
    """This attempt failed. The next one starts after `delay_s` at the earliest.

    Without a delay the backoff of the function decides, else EBS_BACKOFF_S. EBS_MAX_ATTEMPTS and EBS_MAX_TASK_AGE_H
    still apply.
    """

    def __init__(self, delay_s: float | None = None, reason: str = "") -> None:
        if delay_s is not None and not isinstance(delay_s, int | float):
            raise TypeError(
                f"the first argument is the delay in seconds: Retry(delay_s=10, reason=...), not {delay_s!r}"
            )
        if delay_s is not None and not 0 <= delay_s < math.inf:
            raise ValueError(f"a delay is 0 or more seconds, not {delay_s}")
        super().__init__(reason or "the handler asks for another attempt")
        self.delay_s = delay_s
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the delay on the way out of a process: by default only the message would be handed on."""
        return type(self), (self.delay_s, self.reason), self.__dict__
