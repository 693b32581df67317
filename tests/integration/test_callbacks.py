"""Callbacks from end to end, with a real broker, a real receiver, and a worker that is killed before its commit."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from api_process import until
from broker_site import running_site
from callback_receiver import SECRET, Receiver, answering, hang
from checker import differences
from fleet import TAKEN_OVER
from joined_project import JOINED, KIND

from ebs import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared_broker import SharedBroker

GONE = answering(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Let a receiver live in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    receiver = Receiver()
    try:
        asyncio.run_coroutine_threadsafe(receiver.__aenter__(), loop).result()
        yield receiver
        asyncio.run_coroutine_threadsafe(receiver.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_each_end_reaches_its_receiver(shared_broker: SharedBroker, tmp_path: Path) -> None:
    """With the join's result; at least once through a kill; again after a redrive; dead where nobody wants it."""
    common = JOINED | TAKEN_OVER | {"EBS_WEBHOOK_HOSTS": "127.0.0.1", "EBS_WEBHOOK_SECRET": SECRET}
    with (
        running_site(shared_broker, tmp_path) as site,
        receiving() as receiver,
        site.workers(**common) as fleet,
        site.api(**common) as api,
        Client(api.url) as client,
    ):

        def submit(words: str) -> str:
            return client.submit(KIND, name=words, callback_url=receiver.url()).id

        def received(object_id: str) -> list[dict[str, Any]]:
            bodies = [json.loads(one.body) for one in receiver.received if one.is_signed]
            return [body for body in bodies if body["object_id"] == object_id]

        def is_callback(object_id: str, state: str) -> bool:
            fleet.revive()
            callback = client.get(object_id).callback
            return callback is not None and callback.state == state

        receiver.behave = hang
        first = submit("a bb")
        until(lambda: len(received(first)) == 1, "the first callback")
        fleet.kill("processing-1")
        receiver.behave = answering()
        fleet.revive()
        until(lambda: is_callback(first, "delivered"), "the delivery after the kill")
        assert len(received(first)) >= 2
        assert {f"e-{first}-1"} == {one.headers["webhook-id"] for one in receiver.received}
        assert ("OBJECT_FINISHED", {"text": "a bb", "letters": 3}) == tuple(
            received(first)[0][name] for name in ("type", "result")
        )

        failed = submit("a poison")
        until(lambda: is_callback(failed, "delivered"), "the callback of the failure")
        client.redrive(failed)
        until(lambda: len(received(failed)) == 2, "the callback of the second end")
        ends = [(one["id"], one["type"], one["end"]) for one in received(failed)]
        assert [(f"e-{failed}-{number}", "OBJECT_FAILED", number) for number in (1, 2)] == ends

        receiver.behave = GONE
        unwanted = submit("ccc")
        until(lambda: is_callback(unwanted, "dead"), "the death of a callback")
        status = client.get(unwanted)
        assert ("FINISHED", 0) == (status.state, status.tasks_dead)
        assert "410 Gone" in (status.callback.error or "" if status.callback else "")
        receiver.behave = answering()
        client.redrive(unwanted)
        until(lambda: is_callback(unwanted, "delivered"), "the redriven callback")
        assert [f"e-{unwanted}-1"] * 2 == [one["id"] for one in received(unwanted)]
        assert [] == asyncio.run(differences(site.broker.bootstrap)), fleet.last_words()
