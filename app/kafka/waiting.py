"""Waiting for a Kafka broker that is not there yet.

It never gives up unless told to: a process that starts before its broker waits, and says so every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import AccessRefused, BrokerUnavailable
from app.kafka.probe import why_unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.kafka.cluster import Cluster

Say = Callable[[str], None]
"""Tells people a line."""

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_SAY_EVERY_S = 5.0
_REFUSALS_BEFORE_GIVING_UP = 3


class Throttled:
    """Passes on at most one message every few seconds; remembers the latest."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said_s: float | None = None
        self.latest = ""

    def __call__(self, message: str) -> None:
        """Pass a message on, unless another one has just been passed on."""
        self.latest = message
        now_s = asyncio.get_running_loop().time()
        if self._said_s is None or now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            self._say(message)

    def conclude(self, message: str) -> None:
        """Say that the matter is settled, but only to those who heard that there was one."""
        if self._said_s is not None:
            self._said_s = None
            self._say(message)


def pauses_s() -> Iterator[float]:
    """Yield pauses between tries: short ones first, then longer ones up to 2 s, none quite like another."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.75, 1.0)  # many workers that wait must not all knock at once
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def wait_for_broker(cluster: Cluster, *, timeout_s: float | None = None, say: Say = _log.warning) -> None:
    """Return when a broker of the cluster is fit to work with.

    Says every few seconds why it is not. Raises `BrokerUnavailable` only if `timeout_s` is given, `AccessRefused` when
    the broker answers and will have nothing to do with us.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await wait_and_tell(cluster, Throttled(say))
    except TimeoutError:
        reason = await why_unavailable(cluster)
        if reason is not None:
            raise BrokerUnavailable(
                f"no Kafka broker at {cluster.bootstrap} after {timeout_s:g} s ({reason}): start it, "
                "or name another one with --broker HOST:PORT (EBS_BROKER)"
            ) from None


async def wait_and_tell(cluster: Cluster, throttled: Throttled) -> None:
    """Wait as `wait_for_broker` does, without an end; `throttled` is told why."""
    refusals_left = _REFUSALS_BEFORE_GIVING_UP
    for pause_s in pauses_s():
        try:
            reason = await why_unavailable(cluster)
        except AccessRefused as refusal:
            # Once more, and again: while a cluster rolls, one broker may know a user that another one does not yet.
            refusals_left -= 1
            if refusals_left == 0:
                raise
            reason = str(refusal)
        if reason is None:
            throttled.conclude(f"the Kafka broker at {cluster.bootstrap} answers")
            return
        throttled(f"waiting for the Kafka broker at {cluster.bootstrap} ({reason})")
        await asyncio.sleep(pause_s)
