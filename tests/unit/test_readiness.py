"""When `ebs up` says that it is ready, against fake processes."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ebs.cli.demo_play import DemoFailed, DemoPlay
from ebs.cli.readiness import Readiness
from ebs.local.supervisor import Child

URLS = {"api": "http://api", "processing": "http://processing"}


class FakeSystem:
    """Processes whose probes answer what the test wants, and what the readiness has said of them."""

    def __init__(self) -> None:
        self.children = {name: Child(name, pid=1, start_count=1) for name in URLS}
        self.answers = {name: httpx.Response(200) for name in URLS}
        self.said: list[str] = []
        self.asked = 0
        self.readiness = Readiness(
            URLS,
            self.children,
            say=self.said.append,
            transport=httpx.MockTransport(self._answer),
            poll_s=0.001,
            say_every_s=0.0,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        answer = self.answers[request.url.host]
        if answer is None:
            raise httpx.ConnectError("nobody listens")
        return answer

    async def is_said(self, words: str) -> None:
        """Return when the words were said; a system that is ready is an error."""
        waiting = asyncio.create_task(self.readiness.wait())
        async with asyncio.timeout(30):
            while not any(words in line for line in self.said):
                assert not waiting.done()
                await asyncio.sleep(0)
        waiting.cancel()


def test_system_is_ready_when_every_process_is():
    """One that answers is not enough: the other one has to, too."""

    async def scenario():
        system = FakeSystem()
        system.answers["processing"] = httpx.Response(503, json={"reasons": ["no broker", "no group"]})
        await system.is_said("not ready yet: processing: no broker, no group")
        system.answers["processing"] = httpx.Response(200)
        await system.readiness.wait()
        assert {} == system.readiness.unready

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        (
            None,
            "processing: it does not run (last time it ended with exit code 70: error: fenced; ends so far: 4)",
        ),
        (
            7,
            "it does not answer at http://processing (last time it ended with exit code 70: error: fenced; ends",
        ),
    ],
)
def test_process_that_dies_again_and_again_is_named_with_its_last_words(pid, words):
    """Whether it runs at the moment or not."""

    async def scenario():
        system = FakeSystem()
        child = system.children["processing"]
        child.pid, child.start_count, child.last_end = pid, 4, "it ended with exit code 70: error: fenced"
        system.answers["processing"] = None
        await system.is_said(words)

    asyncio.run(scenario())


def test_demo_of_a_system_that_is_never_ready_says_why():
    """Nothing is posted; the time limit ends it."""

    async def scenario():
        system = FakeSystem()
        system.answers["processing"] = None
        async with httpx.AsyncClient() as client:
            await DemoPlay(client, system.readiness, on_progress=lambda _done, _total: None).run(1, 3, 0.2)

    with pytest.raises(DemoFailed, match="not ready yet: processing: it does not answer at http://processing"):
        asyncio.run(scenario())
