"""A project with real work, one function of each sort, to use and to learn from.

    ebs up --project agents.examples
    curl -X POST localhost:8000/api/objects -H 'content-type: application/json' \
         -d '{"kind": "text", "name": "a poem", "content": "the rose is a rose is a rose"}'

Functions run at least once (see `help(ebs)`). These only compute and read, so a second run does no harm.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections import Counter
from typing import TYPE_CHECKING

import httpx

from app.process.extras import how_to_install
from ebs import Context, Project, Reject, Retry, Task, cpu_bound

if TYPE_CHECKING:
    from PIL.Image import Image

project = Project()

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # noqa: RUF001  # the apostrophe that books are printed with
_LINES_PER_PROGRESS = 1_000

_THUMBNAIL_PIXELS = 96
"""Of the longer side. Noise in four channels is then 50,000 bytes of base64, still under EBS_MAX_RESULT_BYTES."""
_IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")

_PAGE_BYTES = 1_048_576
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_COME_BACK = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}


@project.task("text")
def word_count(task: Task[str], context: Context) -> dict[str, object]:
    """Count the words of an object's content: a plain function, which runs in a thread.

    It looks at `context.cancelled` now and then: nobody can end a thread from outside.
    """
    lines = task.content.splitlines()
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines):
        if number % _LINES_PER_PROGRESS == 0:
            if context.cancelled:
                break
            context.progress(number / len(lines), f"{number} of {len(lines)} lines")
        counts.update(word.casefold() for word in _WORD.findall(line))
    return {"words": counts.total(), "distinct": len(counts), "most_common": counts.most_common(5)}


@project.task("image")
@cpu_bound
def thumbnail(task: Task[str], context: Context) -> dict[str, object]:
    """Make a small PNG of an image (content: base64 of a PNG, JPEG, GIF or WebP), which takes a CPU: in a process.

    Needs Pillow: `pip install pillow`.
    """
    image = _open_image(task.content)
    context.progress(0.3, f"read {image.width} x {image.height} pixels")
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    png = io.BytesIO()
    image.convert("RGBA" if image.has_transparency_data else "RGB").save(png, "PNG", optimize=True)
    context.log.info("made a thumbnail of %d bytes", png.tell())
    return {"width": image.width, "height": image.height, "png": base64.b64encode(png.getvalue()).decode()}


@project.task("page")
async def check_page(task: Task[str], context: Context) -> dict[str, object]:
    """Fetch a web page (content: its address) and return its title: a coroutine, hundreds of them wait at once.

    Says how each failure is meant: an address that is none, or a page that is gone, is rejected; a busy server is asked
    again when it wants; anything else, such as no connection, is an ordinary failed attempt.
    """
    url = task.content.strip()
    # Redirects are not followed. Where strangers submit objects, say also which hosts may be asked.
    async with httpx.AsyncClient(timeout=context.remaining_s, trust_env=False) as client:
        try:
            async with client.stream("GET", url) as answer:
                _judge(answer)
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    context.progress(len(body) / _PAGE_BYTES, f"{len(body)} bytes")
                    if len(body) > _PAGE_BYTES:
                        break
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Reject(f"the content is not the address of a web page: {error}") from error
    title = _TITLE.search(body)
    return {"status": answer.status_code, "title": title[1].decode("utf-8", "replace").strip() if title else None}


def _open_image(content: str) -> Image:
    try:
        from PIL import Image  # noqa: PLC0415  # optional, and needed in the process of the handler only
    except ImportError as error:
        raise Reject(f"thumbnails need Pillow: {how_to_install('examples')}") from error
    try:
        image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)), formats=_IMAGE_FORMATS)
        image.load()
    except binascii.Error as error:
        raise Reject(f"the content is not base64: {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Reject(f"the content is not an image that can be read: {error}") from error
    return image


def _judge(answer: httpx.Response) -> None:
    if answer.status_code in _COME_BACK:
        wait = answer.headers.get("retry-after", "")
        raise Retry(delay_s=int(wait) if wait.isdecimal() else None, reason=f"the server answers {answer.status_code}")
    if answer.is_client_error or answer.is_redirect:
        raise Reject(f"the server answers {answer.status_code} {answer.reason_phrase}")
    answer.raise_for_status()
