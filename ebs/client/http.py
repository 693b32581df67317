"""How httpx is used: addresses, time limits, and what its errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebs.client.errors import ApiUnreachable
from ebs.client.loopback import takes_proxies
from ebs.client.steps import ApiCall, Reply
from ebs.errors import SettingsError

if TYPE_CHECKING:
    import httpx

    from ebs.client.settings import ClientSettings

TIMEOUT_S: Final = 30.0
"""Longer than the API itself waits for its broker (EBS_PUBLISH_TIMEOUT_S, then EBS_VIEW_WAIT_S)."""
CONNECT_S: Final = 5.0
STREAM_TIMEOUT_S: Final = 30.0
"""A stream without events sends a heartbeat every 10 s."""
_EXAMPLE = "http://127.0.0.1:8000"
_ELSEWHERE = "name another one: EBS_API_URL, `--api URL` of a command, `url=` of a Client"


def options(settings: ClientSettings, *, timeout_s: float = TIMEOUT_S, connect_s: float = CONNECT_S) -> dict[str, Any]:
    """Return the arguments of `httpx.Client` and `httpx.AsyncClient`. Raises `SettingsError`."""
    import httpx  # noqa: PLC0415  # the help of a command must not wait for it

    url, key = settings
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"EBS_API_URL={url} is not a URL ({error}), such as {_EXAMPLE}") from None
    if address.scheme not in {"http", "https"} or not address.host:
        raise SettingsError(f"EBS_API_URL={url} is not the URL of an API, such as {_EXAMPLE}")
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(timeout_s, connect=connect_s),
        # Reading the certificates of all authorities takes 20 ms, which plain HTTP can do without.
        "verify": address.scheme == "https",
        "trust_env": takes_proxies(url),
    }


def request_of(client: Any, call: ApiCall, least_s: float = 0.0) -> httpx.Request:
    """Return the request of a call; the time that the API is asked to wait comes on top of the client's time limit."""
    import httpx  # noqa: PLC0415  # see above

    timeout = client.timeout
    read_s = min(max(timeout.read, least_s) + call.wait_s, call.limit_s)
    given = {name: value for name, value in call.params.items() if value is not None}
    request: httpx.Request = client.build_request(
        call.method,
        call.path,
        params=given,
        content=call.content,
        headers=call.headers,
        timeout=httpx.Timeout(connect=timeout.connect, read=read_s, write=timeout.write, pool=timeout.pool),
    )
    return request


def reply_of(answer: httpx.Response, content: bytes) -> Reply:
    """Return an answer whose content was read."""
    return Reply(answer.status_code, answer.headers, content, str(answer.url), answer.reason_phrase)


def failure_of(error: Exception, base_url: str, timeout_s: float) -> ApiUnreachable:
    """Return what an error of httpx means."""
    import httpx  # noqa: PLC0415  # see above

    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return ApiUnreachable(
            f"{base_url} takes connections and did not answer within {timeout_s:g} s: if it is the ebs API, see its "
            f"log and start it again; if not, {_ELSEWHERE}"
        )
    reason = "it timed out" if isinstance(error, httpx.ConnectTimeout) else str(error) or type(error).__name__
    return ApiUnreachable(f"no API answers at {base_url} ({reason}): start it with `ebs up`, or {_ELSEWHERE}")
