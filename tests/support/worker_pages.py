"""Reading a worker's own pages, as a probe or Prometheus does."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fleet import Worker


class Page(NamedTuple):
    """An answer; status 0 while nobody serves it in time."""

    status: int
    text: str
    headers: dict[str, str]


def read_page(worker: Worker, path: str, timeout_s: float = 3.0) -> Page:
    """GET a page of a worker."""
    url = f"http://127.0.0.1:{worker.env['EBS_WEB_PORT']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return Page(answer.status, answer.read().decode(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Page(error.code, error.read().decode(), dict(error.headers))
    except OSError:
        return Page(0, "", {})
