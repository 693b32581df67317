"""The example handlers, run as a worker runs them: by their specs, in a thread, a process and the loop."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from PIL import Image
from running_handlers import Bench, some_task

from agents import examples
from agents.examples import check_page, thumbnail, word_count
from agents.execution.loading import load_handlers
from agents.execution.results import encode_result
from app.settings.settings import Settings
from ebs import Context, Reject, Retry, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANDLERS = load_handlers(Settings(project="agents.examples"))


def given(content: str) -> Task:
    """Return a task as a function gets it: with its content decoded."""
    request = some_task(content)
    fields = {name: getattr(request, name) for name in Task.__struct_fields__}
    return Task(**(fields | {"content": content}))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Return a bench for the examples."""
    bench = Bench(*HANDLERS)
    yield bench
    await bench.executor.close()


def test_the_examples_are_one_of_each_sort() -> None:
    """As the documentation says."""
    sorts = {handler.name.partition(":")[2]: handler.mode for handler in HANDLERS.by_kind.values()}
    assert {"word_count": "thread", "thumbnail": "process", "check_page": "coroutine"} == sorts


async def test_words_are_counted(bench: Bench) -> None:
    """Letters of any alphabet, with apostrophes and hyphens inside; capitals are the same word."""
    content = "The rose is a rose.\nDon't stop, don\u2019t; ÉTÉ été 12 the-end"
    context = bench.context(some_task(content))
    result: Any = await bench.executor.run(HANDLERS.for_kind("text"), context.task, context)
    assert (11, 9, [["rose", 2], ["été", 2]]) == (
        result["words"],
        result["distinct"],
        [list(pair) for pair in result["most_common"][:2]],
    )
    encode_result(result, 65_536)


def test_counting_continues_until_it_is_cancelled() -> None:
    """Progress is told every thousand lines; a cancelled count stops at the next of them."""
    task = given("one two\n" * 2_500)
    context = Context(task, 10.0)
    assert 5_000 == word_count(task, context)["words"]
    assert context.last_progress is not None
    assert (0.8, "2000 of 2500 lines") == context.last_progress[:2]
    assert 0 == word_count(task, Context(task, 10.0, cancelled=True))["words"]


def picture(image: Image.Image, kind: str = "PNG") -> str:
    """Return a picture as an object's content."""
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


async def test_a_thumbnail_is_made_in_a_process(bench: Bench) -> None:
    """A small PNG with the same proportions and colour comes back as base64."""
    content = picture(Image.new("RGB", (640, 320), (200, 30, 30)), "JPEG")
    result: Any = await bench.run(HANDLERS.for_kind("image"), content)
    made = msgspec.json.decode(result)
    assert (96, 48) == (made["width"], made["height"])
    small = Image.open(io.BytesIO(base64.b64decode(made["png"])))
    assert ("PNG", (96, 48), "RGB") == (small.format, small.size, small.mode)
    red, green, blue = small.getpixel((48, 24))  # type: ignore[misc]  # an RGB image has three
    assert red > 150
    assert max(green, blue) < 60


def test_the_worst_picture_still_fits_into_a_result(caplog: pytest.LogCaptureFixture) -> None:
    """Noise cannot be compressed; transparency is kept."""
    noise = Image.merge("RGBA", [Image.effect_noise((300, 300), 200) for _ in range(4)])
    task = given(picture(noise))
    with caplog.at_level(logging.INFO):
        made = thumbnail(task, Context(task, 10.0))
    assert len(encode_result(made, 65_536)) > 40_000
    assert "RGBA" == Image.open(io.BytesIO(base64.b64decode(str(made["png"])))).mode
    assert "task o1-0, attempt 1: made a thumbnail of" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not base64!", "the content is not base64: "),
        (base64.b64encode(b"no image").decode(), "the content is not an image that can be read: cannot identify"),
        (picture(Image.new("L", (64, 64)))[:-40], "the content is not an image that can be read: "),
        (picture(Image.new("L", (8, 8)), "BMP"), "the content is not an image that can be read: cannot identify"),
    ],
)
def test_what_is_no_picture_is_rejected(content: str, words: str) -> None:
    """A second attempt would find the same bytes."""
    task = given(content)
    with pytest.raises(Reject) as caught:
        thumbnail(task, Context(task, 10.0))
    assert caught.value.reason.startswith(words)


@pytest.mark.parametrize(("content", "sort"), [(b"null", "null"), (b'{"text": "words"}', "object")])
def test_a_task_whose_content_is_no_text_is_rejected(content: bytes, sort: str) -> None:
    """Anybody may submit one."""
    task = msgspec.structs.replace(some_task(), content=msgspec.Raw(content))
    with pytest.raises(Reject, match=f"the content does not fit str: Expected `str`, got `{sort}`"):
        HANDLERS.for_kind("text").function(task, Context(task, 10.0))


class Site:
    """A web server with one page, whose answer is what the test says."""

    def __init__(self) -> None:
        self.answer = b""
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a request."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + self.answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Return a web server on the loopback address."""
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    async with server:
        site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield site


async def test_a_page_is_checked(bench: Bench, site: Site) -> None:
    """Its title comes back."""
    site.answer = b"200 OK\r\n\r\n<html><TITLE lang=en>\n A caf\xc3\xa9 </title>"
    context = bench.context(some_task(f" {site.url}\n"))
    result = await bench.executor.run(HANDLERS.for_kind("page"), context.task, context)
    assert {"status": 200, "title": "A café"} == result
    assert context.last_progress is not None


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"404 Not Found\r\n\r\n", Reject, "the server answers 404 Not Found"),
        (b"302 Found\r\nlocation: http://10.0.0.1/\r\n\r\n", Reject, "the server answers 302 Found"),
        (b"429 Slow\r\nretry-after: 17\r\n\r\n", Retry, "the server answers 429"),
        (b"503 Busy\r\nretry-after: Fri, 31 Dec 2027 23:59:59 GMT\r\n\r\n", Retry, "the server answers 503"),
        (b"500 Oops\r\n\r\n", examples.httpx.HTTPStatusError, "Server error '500 Oops'"),
    ],
)
async def test_each_failure_says_how_it_is_meant(
    bench: Bench, site: Site, answer: bytes, error: type[Exception], words: str
) -> None:
    """Gone is gone, busy is asked again, anything else is an ordinary failure."""
    site.answer = answer
    with pytest.raises(error) as caught:
        await bench.run(HANDLERS.for_kind("page"), site.url)
    assert str(caught.value).startswith(words)


async def test_a_busy_server_says_when_to_come_back(bench: Bench, site: Site) -> None:
    """Its Retry-After is the delay, in seconds."""
    site.answer = b"503 Busy\r\nretry-after: 17\r\n\r\n"
    with pytest.raises(Retry) as caught:
        await bench.run(HANDLERS.for_kind("page"), site.url)
    assert 17 == caught.value.delay_s


@pytest.mark.parametrize("content", ["no address", "file:///etc/passwd", "http://a:port/", ""])
async def test_what_is_no_address_is_rejected(content: str) -> None:
    """Files of the worker least of all."""
    task = given(content)
    with pytest.raises(Reject, match="the content is not the address of a web page"):
        await check_page(task, Context(task, 10.0))


async def test_a_server_that_hangs_up_is_an_ordinary_failure(site: Site) -> None:
    """It may answer at the next attempt."""
    task = given(site.url)
    with pytest.raises(examples.httpx.TransportError):
        await check_page(task, Context(task, 10.0))
