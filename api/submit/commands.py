"""Writes commands to `control`, and waits until the view has them.

Guarantee: if the answer is a success, the command is on every in-sync replica, so it survives every process. A command
is safe to repeat: its key says what it is about, and the last record of a key is in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from api.server import problems
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.rules.commands import Cancel, CancelWaiting, EndSession, StartTask, StartWaiting, encode_command
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.submit.publisher import Publisher
    from api.view.view import View
    from app.rules.commands import Command, CommandKey
    from app.settings.settings import Settings

_PARTITION = 0
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_ORDERS_KEPT_MS = 7 * _DAY_MS
"""So long workers may be away that have yet to carry out what is asked of waiting tasks."""
_TIDIED_UP_COUNT = 2
"""Outdated cancels (logouts) that each new one takes away: more than it adds, so that they do not pile up."""


class Commander(NamedTuple):
    """Gives commands with the collaborators of one application."""

    settings: Settings
    publisher: Publisher
    view: View
    clock_ms: Callable[[], int]

    async def put(self, place: CommandKey, command: Command) -> bool:
        """Put a command in force; returns whether the view has it already. Raises `Problem` (503)."""
        outdated = [self._record(one, None) for one in self._outdated(command) if one != place]
        return await self._write(place, [*outdated, self._record(place, encode_command(command))])

    async def revoke(self, place: CommandKey) -> bool:
        """Put a command out of force, whether it was in force or not; otherwise as `put`."""
        return await self._write(place, [self._record(place, None)])

    async def _write(self, place: CommandKey, records: list[Outgoing]) -> bool:
        try:
            ends = await self.publisher.publish_to(records)
        except (OutcomeUnknown, BrokerUnavailable, RecordRefused) as error:
            raise problems.not_written(error, "the command", _members(place)) from error
        topic = self.settings.names.control
        end = ends.get((topic, _PARTITION))
        # The broker has it, but no longer knows where: nothing can be waited for.
        return end is not None and await self.view.wait_for(topic, {_PARTITION: end})

    def _record(self, place: CommandKey, value: bytes | None) -> Outgoing:
        return Outgoing(self.settings.names.control, _PARTITION, place.encoded(), value)

    def _outdated(self, command: Command) -> list[CommandKey]:
        """Return where commands of the same sort rule nothing any more.

        A cancel rules nothing once its tasks are gone: no request is kept, or tried again, for longer.
        """
        state, now_ms = self.view.control.state, self.clock_ms()
        if isinstance(command, EndSession):
            return state.outdated_sessions(now_ms, _TIDIED_UP_COUNT)
        if isinstance(command, Cancel):
            kept_ms = self.settings.retention_days * _DAY_MS + round(self.settings.max_task_age_h * _HOUR_MS)
            return state.outdated_cancels(now_ms - kept_ms, _TIDIED_UP_COUNT)
        if isinstance(command, StartTask | StartWaiting | CancelWaiting):
            return state.outdated_orders(now_ms - _ORDERS_KEPT_MS, _TIDIED_UP_COUNT)
        return []


def _members(place: CommandKey) -> dict[str, str | bool]:
    return {"key": place.encoded().decode(), "safe_to_repeat": True}
