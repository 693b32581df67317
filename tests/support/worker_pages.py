"""Reading a worker's own pages, as a probe or Prometheus does."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

from api_process import PATIENCE_S

if TYPE_CHECKING:
    from fleet import Worker


class Page(NamedTuple):
    """An answer; status 0 while nobody serves it in time."""

    status: int
    text: str
    headers: dict[str, str]


def read_page(worker: Worker, path: str, timeout_s: float = PATIENCE_S, accept: str = "*/*") -> Page:
    """GET a page of a worker."""
    url = f"http://127.0.0.1:{worker.env['EBS_WEB_PORT']}{path}"
    try:
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return Page(answer.status, answer.read().decode(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        return Page(error.code, error.read().decode(), dict(error.headers))
    except (OSError, http.client.HTTPException):
        return Page(0, "", {})


def read_json(worker: Worker, path: str) -> tuple[int, dict[str, Any]]:
    """GET a page of a worker as JSON; returns status and body, empty while nobody serves it."""
    page = read_page(worker, path)
    return page.status, json.loads(page.text) if page.status else {}
