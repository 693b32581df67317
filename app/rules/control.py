"""The commands in force: the fold of the compacted topic `control`.

Guarantee: the state depends only on the last record of each key. So a reader of the whole topic, and a reader of the
compacted topic, get the same state. For this reason a record that cannot be read is not skipped: it undoes the earlier
command of its key, because later readers will not see that command after compaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from app.rules.commands import (
    BadCommand,
    Cancel,
    CancelWaiting,
    Command,
    CommandKey,
    Drain,
    EndSession,
    Family,
    LimitKind,
    LimitRate,
    Pause,
    SetConcurrency,
    StartTask,
    StartWaiting,
    decode_command,
    parse_command_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from app.events import TaskCreated
    from app.rules.commands import OfWaiting

MAX_CANCELS_SHOWN = 100
_WITHOUT_REASON = "cancelled"
_WHAT_A_CANCEL_MEANS = ("object_id", "task_id", "kind", "created_before_ms")


class ControlState:
    """The commands in force; `report` gets a sentence for each record that cannot be read.

    `resume_observers` are called for each pause that ends, with its kind, or "" for the pause of all kinds.
    `has_pauses`, `has_rates`, `has_limits` and `has_cancels` let the hot path skip all checks while there are none.
    """

    def __init__(self, report: Callable[[str], None] = lambda _reason: None) -> None:
        self.resume_observers: list[Callable[[str], None]] = []
        self._report = report
        self._pauses: dict[str, Pause] = {}
        self._rates: dict[str, LimitRate] = {}
        self._limits: dict[str, LimitKind] = {}
        self._concurrencies: dict[str, SetConcurrency] = {}
        self._drains: dict[str, Drain] = {}
        self._objects: dict[str, Cancel] = {}
        self._tasks: dict[str, Cancel] = {}
        self._filters: dict[str, Cancel] = {}
        self._waiting_cancels: dict[str, CancelWaiting] = {}
        self._task_starts: dict[str, StartTask] = {}
        self._waiting_starts: dict[str, StartWaiting] = {}
        self._sessions: dict[str, EndSession] = {}
        self._furthest: dict[str, Cancel] = {}  # by kind, "" for all: the filter that reaches the latest instant
        self._of: dict[Family, dict[str, Any]] = {
            Family.PAUSE: self._pauses,
            Family.RATE: self._rates,
            Family.LIMIT: self._limits,
            Family.CONCURRENCY: self._concurrencies,
            Family.DRAIN: self._drains,
            Family.CANCEL_OBJECT: self._objects,
            Family.CANCEL_TASK: self._tasks,
            Family.CANCEL_FILTER: self._filters,
            Family.CANCEL_WAITING: self._waiting_cancels,
            Family.START_TASK: self._task_starts,
            Family.START_WAITING: self._waiting_starts,
            Family.SESSION: self._sessions,
        }
        self.has_pauses = False
        self.has_rates = False
        self.has_limits = False
        self.has_cancels = False

    def apply(self, key: bytes | None, value: bytes | None) -> bool:
        """Take in one record; returns whether anything changed."""
        changed = self._put(key, value)
        if changed:
            self._derive()
        return changed

    def replace(self, latest: Mapping[bytes, bytes | None]) -> bool:
        """Forget all and take in the last record of each key; returns whether anything changed."""
        before = self.commands()
        paused = list(self._pauses)
        for commands in self._of.values():
            commands.clear()
        for key, value in latest.items():
            self._put(key, value)
        self._derive()
        self._tell_resumed(kind for kind in paused if kind not in self._pauses)
        return before != self.commands()

    def commands(self) -> dict[CommandKey, Command]:
        """Return all that is in force."""
        return {
            CommandKey(family, name): command
            for family, by_name in self._of.items()
            for name, command in by_name.items()
        }

    def command_at(self, command_key: CommandKey) -> Command | None:
        """Return the command in force under a key."""
        command: Command | None = self._of[command_key.family].get(command_key.name)
        return command

    def pauses(self) -> list[Pause]:
        """Return the pauses in force, of all and of kinds."""
        return list(self._pauses.values())

    def pauses_of(self, kind: str) -> list[str]:
        """Return which pauses keep the tasks of a kind from starting: "" is the pause of all kinds."""
        return [name for name in ("", kind) if name in self._pauses]

    def is_paused(self, kind: str) -> bool:
        """Return whether no task of this kind may start."""
        return self.has_pauses and ("" in self._pauses or kind in self._pauses)

    def is_cancelled(self, task: TaskCreated) -> str | None:
        """Return why a task is cancelled (never empty), or None. A cancel of an object does not cancel its callback."""
        if not self.has_cancels:
            return None
        of_object = None if task.role == "callback" else self._objects.get(task.object_id)
        cancel = of_object or self._tasks.get(task.task_id) or self._filter_of(task)
        return None if cancel is None else cancel.reason or _WITHOUT_REASON

    def rate_of(self, kind: str) -> float | None:
        """Return how many tasks of a kind may start a second in the whole system; None: no limit."""
        limit = self._rates.get(kind)
        return None if limit is None else limit.per_s

    def rates(self) -> dict[str, float]:
        """Return all rate limits by kind."""
        return {kind: limit.per_s for kind, limit in self._rates.items()}

    def limit_of(self, kind: str) -> LimitKind | None:
        """Return the live limits of a kind's tasks at once, None if there are none."""
        return self._limits.get(kind)

    def concurrency_of(self, worker: str) -> int | None:
        """Return how many tasks a worker may work on at once; None: as its settings say."""
        asked = self._concurrencies.get(worker) or self._concurrencies.get("")
        return None if asked is None else asked.count

    def is_draining(self, worker: str) -> bool:
        """Return whether a worker may start nothing any more."""
        return worker in self._drains

    def is_session_over(self, name: str) -> bool:
        """Return whether the browser of a session has logged out."""
        return name in self._sessions

    def outdated_sessions(self, now_ms: int, limit: int) -> list[CommandKey]:
        """Return up to `limit` logouts, oldest first, whose sessions would have ended by now anyway."""
        old = sorted((one.until_ms, name) for name, one in self._sessions.items() if one.until_ms < now_ms)
        return [CommandKey(Family.SESSION, name) for _, name in old[:limit]]

    def cancel_keys(self) -> Iterator[CommandKey]:
        """Iterate over the keys of all cancels in force."""
        return (command_key for command_key, _ in self._cancels())

    def orders(self) -> dict[CommandKey, OfWaiting | StartTask]:
        """Return what operators ask of waiting tasks, beside the cancels that are about tasks wherever they are."""
        return {
            CommandKey(family, name): order
            for family in (Family.CANCEL_WAITING, Family.START_TASK, Family.START_WAITING)
            for name, order in self._of[family].items()
        }

    def outdated_orders(self, before_ms: int, limit: int) -> list[CommandKey]:
        """Return up to `limit` of these, oldest first, that were asked for before an instant."""
        old = [(order.at_ms, command_key) for command_key, order in self.orders().items() if order.at_ms < before_ms]
        return [command_key for _, command_key in sorted(old)[:limit]]

    def outdated_cancels(self, before_ms: int, limit: int) -> list[CommandKey]:
        """Return up to `limit` cancels, oldest first, that were asked for before an instant."""
        old = [(command.at_ms, command_key) for command_key, command in self._cancels() if command.at_ms < before_ms]
        return [command_key for _, command_key in sorted(old)[:limit]]

    def describe(self) -> dict[str, Any]:
        """Return the commands in force as answers show them, with only the newest cancels."""
        cancels = sorted(self._cancels(), key=lambda cancel: (-cancel[1].at_ms, cancel[0]))
        return {
            "paused": None if "" not in self._pauses else _fields(self._pauses[""]),
            "paused_kinds": {kind: _fields(pause) for kind, pause in sorted(self._pauses.items()) if kind},
            "rates": dict(sorted(self.rates().items())),
            "limits": {
                kind: {"concurrency": limit.concurrency or None, "per_key": limit.per_key or None}
                for kind, limit in sorted(self._limits.items())
            },
            "concurrency": None if "" not in self._concurrencies else self._concurrencies[""].count,
            "concurrency_of_workers": {name: one.count for name, one in sorted(self._concurrencies.items()) if name},
            "draining": {worker: _fields(drain) for worker, drain in sorted(self._drains.items())},
            "cancel_count": len(cancels),
            "cancels": [_describe_cancel(*cancel) for cancel in cancels[:MAX_CANCELS_SHOWN]],
        }

    def _put(self, key: bytes | None, value: bytes | None) -> bool:
        try:
            command_key = parse_command_key(key)
        except BadCommand as error:
            self._report(f"a record of control is skipped: {error}")
            return False
        by_name = self._of[command_key.family]
        command: Command | None = None
        if value is not None:
            try:
                command = decode_command(command_key, value)
            except BadCommand as error:
                self._report(
                    f"a record of control is not a command, so {command_key.encoded().decode()!r} is revoked: {error}"
                )
        if command is None:
            revoked = by_name.pop(command_key.name, None) is not None
            if revoked and command_key.family is Family.PAUSE:
                self._tell_resumed((command_key.name,))
            return revoked
        changed = by_name.get(command_key.name) != command
        by_name[command_key.name] = command
        return changed

    def _tell_resumed(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            for observe in self.resume_observers:
                observe(kind)

    def _derive(self) -> None:
        self._furthest.clear()
        for cancel in self._filters.values():
            kind = "" if cancel.kind is UNSET else cancel.kind
            furthest = self._furthest.get(kind)
            if furthest is None or _reach_ms(furthest) < _reach_ms(cancel):
                self._furthest[kind] = cancel
        self.has_pauses = bool(self._pauses)
        self.has_rates = bool(self._rates)
        self.has_limits = bool(self._limits)
        self.has_cancels = bool(self._objects or self._tasks or self._filters)

    def _filter_of(self, task: TaskCreated) -> Cancel | None:
        for kind in (task.kind, ""):
            cancel = self._furthest.get(kind)
            if cancel is not None and task.at_ms < _reach_ms(cancel):
                return cancel
        return None

    def _cancels(self) -> list[tuple[CommandKey, Cancel]]:
        families = (Family.CANCEL_OBJECT, Family.CANCEL_TASK, Family.CANCEL_FILTER)
        return [(CommandKey(family, name), cancel) for family in families for name, cancel in self._of[family].items()]


def _reach_ms(cancel: Cancel) -> int:
    return 0 if cancel.created_before_ms is UNSET else cancel.created_before_ms


def _describe_cancel(command_key: CommandKey, cancel: Cancel) -> dict[str, Any]:
    # All fields, for every type of cancel, so that clients need not check which fields exist.
    described = {"key": command_key.encoded().decode(), **dict.fromkeys(_WHAT_A_CANCEL_MEANS), **_fields(cancel)}
    # Another writer may leave out of the value what the key already says.
    if command_key.family is Family.CANCEL_OBJECT:
        described["object_id"] = command_key.name
    elif command_key.family is Family.CANCEL_TASK:
        described["task_id"] = command_key.name
    return described


def _fields(command: Command) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(command)
    del fields["type"]
    return fields
