"""An object's events as they come (Server-Sent Events), through lost connections.

An event counts as received when the empty line after it has come, and the next connection names it as `Last-Event-ID`.
So each event comes once, whichever API process answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ebs.client.answers import ObjectEvent
from ebs.client.errors import ApiError, ApiUnreachable
from ebs.client.operations import path_of
from ebs.client.steps import ApiCall, Open, PauseFor, Read, checked, pause_before_next

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebs.client.steps import CallPolicy, Reply, Steps

_MEDIA_TYPE = "text/event-stream"
_END = "end"
_ERROR = "error"


class Message(NamedTuple):
    """One message of a stream."""

    event: str
    data: str
    id: str


class MessageReader:
    """Puts lines together to messages, as the HTML standard says; what breaks off before its end is no message."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> Message | None:
        """Take the next line; returns the message that it ends."""
        if not line:
            fields, self._fields = self._fields, {}
            if "data" not in fields:
                return None
            return Message(fields.get("event", "message"), fields["data"], fields.get("id", ""))
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        if name:  # a line that begins with a colon is a comment
            self._fields[name] = value
        return None


class Following:
    """How far one iteration over the events has come."""

    def __init__(self, policy: CallPolicy, object_id: str, after: str | None) -> None:
        self._policy = policy
        self._path = path_of(object_id, "events")
        self._last = after
        self._failures = 0
        self._ended = False

    def steps(self) -> Steps[None]:
        """Yield the events, and between them what is to be done."""
        while not self._ended:
            try:
                yield from self._connection()
            except ApiError as error:
                # After a connection that delivered events, the count of failures restarts.
                pause_s = pause_before_next(self._policy, error, self._failures)
                self._failures += 1
                yield PauseFor(pause_s)

    def _connection(self) -> Steps[None]:
        headers = {"Accept": _MEDIA_TYPE} | ({} if self._last is None else {"Last-Event-ID": self._last})
        reply: Reply = checked((yield Open(ApiCall("GET", self._path, headers=headers))))
        if not reply.headers.get("content-type", "").startswith(_MEDIA_TYPE):
            raise ApiError(f"{reply.url} answers without a stream of events: is EBS_API_URL the ebs API?")
        reader = MessageReader()
        while (lines := (yield Read())) is not None:
            for message in filter(None, map(reader.take, lines)):
                yield from self._told(message)
                if self._ended:
                    return
        raise ApiUnreachable(f"the stream of {reply.url} broke off")

    def _told(self, message: Message) -> Iterator[Any]:
        if message.event == _END:
            self._ended = True
        elif message.event == _ERROR:
            told = _data_of(message)
            raise ApiError(str(told.get("detail", "the stream failed")), told, status=503)
        else:
            data = _data_of(message)
            self._last, self._failures = message.id, 0
            yield ObjectEvent(message.event, message.id, data.get("at_ms", 0), data)


def _data_of(message: Message) -> dict[str, Any]:
    try:
        return msgspec.json.decode(message.data, type=dict[str, Any])
    except ValueError as error:
        raise ApiError(f"the stream has an event {message.event} that is not a JSON object: {error}") from None
