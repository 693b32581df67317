"""The sender of callbacks against a real receiver: what it sends, where it connects to, and what each answer means."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult
from callback_receiver import SECRET, Receiver, answering, closing, endless, hang
from told_object import AT_MS

from agents.execution.callbacks import CallbackFailed, CallbackSender, beginning_of
from agents.execution.loading import CALLBACK_BACKOFF_S, load_handlers
from app.errors import SettingsError
from app.events import FinishedObject, TaskCreated, encode
from app.rules.callbacks import callback_of
from app.rules.retry_policy import RetryAt
from app.settings.settings import Settings
from app.webhooks.hosts import hosts_of
from app.webhooks.signatures import keys_of_secrets
from ebs import Context, Reject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "callbacks.md"
LOCAL = ("localhost", "127.0.0.0/8")
TIMEOUT_S = 1.0
END = FinishedObject("e-a-1", "a", "order", AT_MS, AT_MS, 1, 1, 0, 0, 1, msgspec.Raw(b'{"cents":1}'))


def request(url: str, end: FinishedObject = END) -> TaskCreated:
    """Return the request of a callback, as the statistics make it."""
    (made,) = callback_of(end, url, 3, AT_MS).requests
    return made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Return a receiver that confirms."""
    async with Receiver() as one:
        yield one


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., CallbackSender]]:
    """Return a factory of senders to hosts; they are closed at the end."""
    made: list[CallbackSender] = []

    def sender(*hosts: str, timeout_s: float = TIMEOUT_S, **options: Any) -> CallbackSender:
        made.append(CallbackSender(hosts_of(hosts or LOCAL), keys_of_secrets([SECRET]), timeout_s, **options))
        return made[-1]

    yield sender
    for one in made:
        await one.close()


def send(sender: CallbackSender, url: str, end: FinishedObject = END) -> Awaitable[Any]:
    """Send a callback as the engine does."""
    task = request(url, end)
    return sender(task, Context(task, 60.0))


async def test_receiver_gets_the_end_event_signed(make: Callable[..., CallbackSender], receiver: Receiver) -> None:
    """The very bytes of `object-events`; the id is that of the event, so that a receiver can drop repetitions."""
    assert {"status": 200} == await send(make(), receiver.url(path="/hooks?shop=1"))
    (received,) = receiver.received
    assert ("/hooks?shop=1", encode(END)) == (received.target, received.body)
    assert ("e-a-1", "application/json") == (received.headers["webhook-id"], received.headers["content-type"])
    assert received.is_signed


async def test_connection_is_used_again(make: Callable[..., CallbackSender], receiver: Receiver) -> None:
    """By the next callback to the same host."""
    sender = make()
    for _ in range(3):
        await send(sender, receiver.url())
    assert [1, 1, 1] == [one.connection for one in receiver.received]


async def test_receiver_of_the_docs_verifies_what_is_sent(
    make: Callable[..., CallbackSender], receiver: Receiver
) -> None:
    """It returns the event, and refuses another body, another time, another secret and an old callback."""
    sender = make()
    await send(sender, receiver.url())
    (received,) = receiver.received
    verified = verifier_of_the_docs()
    headers = received.headers
    assert msgspec.json.decode(received.body) == verified(headers, received.body, SECRET)
    later = str(int(headers["webhook-timestamp"]) + 1)
    for changed, body, secret in (
        (headers, received.body + b" ", SECRET),
        (headers | {"webhook-timestamp": later}, received.body, SECRET),
        (headers | {"webhook-id": "e-b-1"}, received.body, SECRET),
        (headers, received.body, "whsec_b3RoZXI="),
    ):
        with pytest.raises(ValueError, match="the signature is wrong"):
            verified(changed, body, secret)
    with pytest.raises(ValueError, match="the callback is too old"):
        verified(headers, received.body, SECRET, -1)


def verifier_of_the_docs() -> Callable[..., dict[str, Any]]:
    """Return the function of the page on callbacks, as it is printed there."""
    (snippet,) = re.findall(r'```python title="receiver.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    found: dict[str, Any] = {"__name__": "receiver"}
    exec(snippet, found)
    verified: Callable[..., dict[str, Any]] = found["verified"]
    return verified


@pytest.mark.parametrize(
    ("behave", "words", "delay_s"),
    [
        (answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nbroken"), "answered 500 Oops: 'broken'", None),
        (answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "answered 404 Not Found", None),
        (
            answering(b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"),
            "answered 503 Busy",
            120,
        ),
        (answering(b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"), "answered 429 Slow", None),
        (
            answering(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
            "answered 302 Found to 'http://169.254.169.254/': redirects are not followed",
            None,
        ),
        (hang, "did not answer within 1 s", None),
        (closing(), "did not answer: ServerDisconnectedError", None),
        (closing(b"HTTP/1.1 200 O"), "did not answer", None),
        (closing(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "did not answer", None),
        (endless(b"HTTP/1.1 500 Oops\r\n\r\n"), "answered 500 Oops: 'xxx", None),
        (endless(b"HTTP/1.1 200 OK\r\nX-Long: "), "did not answer", None),
    ],
    ids=["500", "404", "503", "429", "302", "slow", "closes", "closes in head", "no HTTP", "endless", "endless head"],
)
async def test_what_is_not_confirmed_is_sent_again(
    make: Callable[..., CallbackSender], receiver: Receiver, behave: Any, words: str, delay_s: float | None
) -> None:
    """The error says what the receiver did; it may ask for more time than the back-off gives."""
    receiver.behave = behave
    async with asyncio.timeout(30):
        with pytest.raises(CallbackFailed, match=r"^the receiver ") as failed:
            await send(make(), receiver.url())
    assert words in str(failed.value)
    assert (delay_s, 1) == (failed.value.delay_s, len(receiver.received))
    assert len(str(failed.value)) < 600


@pytest.mark.parametrize(
    "behave",
    [
        endless(b"HTTP/1.1 200 OK\r\n\r\n"),
        closing(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
        answering(b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
    ],
    ids=["endless", "closes in body", "204", "no gzip", "hangs in body"],
)
async def test_status_confirms_whatever_becomes_of_the_body(
    make: Callable[..., CallbackSender], receiver: Receiver, behave: Any
) -> None:
    """The receiver has it: to send it again because its answer is odd would only repeat it."""
    receiver.behave = behave
    async with asyncio.timeout(30):
        assert (await send(make(timeout_s=5.0), receiver.url()))["status"] < 300


class EndlessAnswer:
    """An answer whose body comes as fast as it is read; `content` is itself."""

    def __init__(self) -> None:
        self.content: Any = self
        self.read_bytes = 0

    async def read(self, size: int) -> bytes:
        """Return as much as is asked for."""
        await asyncio.sleep(0)
        self.read_bytes += size
        return b"x" * size


async def test_little_is_read_of_a_fast_endless_answer() -> None:
    """Time alone would not bound it: a receiver could fill the worker's memory."""
    answer: Any = EndlessAnswer()
    assert len(await beginning_of(answer)) == answer.read_bytes <= 65_536


async def test_gone_receiver_is_not_asked_again(make: Callable[..., CallbackSender], receiver: Receiver) -> None:
    """As Standard Webhooks says of 410."""
    receiver.behave = answering(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Reject, match="answered 410 Gone: it wants no more callbacks"):
        await send(make(), receiver.url())


async def test_receiver_that_is_away_is_tried_again(make: Callable[..., CallbackSender]) -> None:
    """The error names host and port."""
    async with Receiver() as away:
        url = away.url()
    with pytest.raises(CallbackFailed, match=r"no connection: .*127\.0\.0\.1:\d+"):
        await send(make(), url)


async def test_receiver_with_a_certificate_that_nobody_trusts_is_not_spoken_to(
    make: Callable[..., CallbackSender],
) -> None:
    """The event stays here; the next attempt may find a better one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with Receiver(tls=context) as receiver:
        with pytest.raises(CallbackFailed, match=r"no connection: .*CERTIFICATE_VERIFY_FAILED"):
            await send(make(), receiver.url("localhost").replace("http:", "https:"))
    assert not receiver.received


@pytest.mark.parametrize(
    ("hosts", "host", "words"),
    [
        (("localhost",), "localhost", "is not a public address: add it, or its network, to EBS_WEBHOOK_HOSTS"),
        (("*",), "localhost", "is not a public address"),
        (("*",), "127.1", "write four numbers, or a name"),
        (("*",), "2130706433", "write four numbers, or a name"),
        (("*",), "0x7f000001", "write four numbers, or a name"),
        (
            ("*",),
            "127.0.0.1",
            "callbacks to 127.0.0.1 are not allowed: add it to EBS_WEBHOOK_HOSTS of the API and",
        ),
        (("shop.example",), "localhost", "callbacks to localhost are not allowed"),
    ],
)
async def test_private_address_is_not_connected_to(
    make: Callable[..., CallbackSender], receiver: Receiver, hosts: tuple[str, ...], host: str, words: str
) -> None:
    """Whatever the name or the number is written like; no attempt can succeed, so there is no other."""
    with pytest.raises(Reject) as refused:
        await send(make(*hosts), receiver.url(host))
    assert words in str(refused.value)
    assert not receiver.received


class ChangingNames(AbstractResolver):
    """DNS in the hands of an attacker: each answer has another address."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = iter(addresses)

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        """Return the next address."""
        return [ResolveResult(hostname=host, host=next(self._addresses), port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


async def test_name_that_resolves_to_another_address_later_gains_nothing(
    make: Callable[..., CallbackSender], receiver: Receiver
) -> None:
    """DNS rebinding: what is checked is the address of the socket, at each connection."""
    sender = make("shop.example", "127.0.0.1", resolver=ChangingNames("127.0.0.1", "169.254.169.254"))
    assert {"status": 200} == await send(sender, receiver.url("shop.example"))
    await sender.close()  # the cache of names goes with it
    with pytest.raises(Reject, match=r"169\.254\.169\.254 is not a public address"):
        await send(sender, receiver.url("shop.example"))


async def test_proxy_of_the_environment_is_not_used(
    make: Callable[..., CallbackSender], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would resolve the name itself, where nobody checks the address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert {"status": 200} == await send(make(), receiver.url())


async def test_edited_request_that_is_no_callback_is_rejected(make: Callable[..., CallbackSender]) -> None:
    """With what it must have; a redrive may have changed it."""
    task = msgspec.structs.replace(request("http://localhost/"), content=msgspec.Raw(b'{"url": 1}'))
    with pytest.raises(Reject, match="its content is not a callback, which has url and event"):
        await make()(task, Context(task, 60.0))


def test_worker_has_the_sender_with_a_policy_of_its_own() -> None:
    """A receiver may be away for hours; the other kinds keep the settings' attempts."""
    settings = Settings(webhook_hosts=LOCAL, webhook_secret=SECRET)  # type: ignore[arg-type]  # pydantic makes it one
    loaded = load_handlers(settings).for_task(request("http://localhost/"))
    assert ("the callback", "coroutine", None) == (loaded.name, loaded.mode, loaded.address)
    retry = loaded.limits.retry
    assert (8, settings.webhook_timeout_s + 10) == (retry.max_attempts, loaded.limits.time_limit_s)
    decided = retry.decide(attempt=7, created_at_ms=0, now_ms=0, asked_delay_s=None, draw=lambda low, _high: low)
    assert RetryAt(CALLBACK_BACKOFF_S[-1] * 1_000) == decided


def test_worker_without_a_secret_does_not_start() -> None:
    """Receivers could not know who calls; the words say how to make a secret."""
    with pytest.raises(SettingsError, match=r"EBS_WEBHOOK_SECRET is not.*openssl rand -base64 32"):
        load_handlers(Settings(webhook_hosts=LOCAL))


def test_task_with_a_role_that_no_function_has_is_rejected() -> None:
    """A callback or split in the hands of a function for tasks would seem to be done."""
    task = msgspec.structs.replace(request("http://localhost/"), kind="mail")
    loaded = load_handlers(Settings()).for_task(task)
    with pytest.raises(Reject, match=r"callbacks have kind ebs\.callback, not mail"):
        loaded.function(task, Context(task, 1.0))
