"""The client of the HTTP API that the `ebs` commands share: any path, JSON in and out, a message if an answer is slow.

`ebs.client` has the rest: where the API is, how httpx is used, what answers and errors mean.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from ebs.client.errors import ApiError as ApiError  # noqa: PLC0414  # what all commands catch
from ebs.client.segments import api_path
from ebs.client.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

    from ebs.client.steps import Reply

_FIRST_CONNECT_S = 0.5
"""After this time the command says that no API answers: within a second of its start."""
_SILENT_S = 0.6
"""After this time the command says that the API takes connections but has not answered yet."""


def path_of(*parts: str) -> str:
    """Return the path of these parts under `/api`, whatever characters an id has. Raises `ApiError`."""
    try:
        return api_path(*parts)
    except ValueError:
        raise ApiError("an id, a kind or the name of a worker is empty: give one") from None


class ApiClient:
    """Asks the API at `base_url` with an API `key`; tests bring a `transport`. Every call raises `ApiError`.

    `say(line)` hears that nobody has answered so far, from a thread of its own; the client goes on trying for
    `CONNECT_S`, and waiting for `TIMEOUT_S`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str = "",
        transport: httpx.BaseTransport | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        import httpx

        from ebs.client.http import options

        self._base_url = base_url
        self._say = say
        given = options(ClientSettings(base_url, key), connect_s=_FIRST_CONNECT_S)
        self._client = httpx.Client(transport=transport, **given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """GET; parameters that are None are left out."""
        return self._ask("GET", path, parameters)

    def post(self, path: str, body: Any = None, *, key: str | None = None, **parameters: Any) -> Any:
        """POST a JSON body, or none; with an idempotency key."""
        return self._ask("POST", path, parameters, body, key=key)

    def post_lines(self, path: str, lines: bytes, *, key: str | None = None) -> list[Any]:
        """POST NDJSON, and return what each line of the answer says."""
        import msgspec

        from ebs.client.steps import checked

        headers = {"content-type": "application/x-ndjson"} | _key_header(key)
        answer = checked(self._send("POST", path, content=lines, headers=headers))
        try:
            return [msgspec.json.decode(line) for line in answer.content.splitlines()]
        except ValueError:
            raise ApiError(f"the answer of {answer.url} broke off: what was accepted is not known") from None

    def put(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """PUT a JSON body, or none."""
        return self._ask("PUT", path, parameters, body)

    def delete(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """DELETE, with a JSON body where a reason goes along."""
        return self._ask("DELETE", path, parameters, body)

    def _ask(
        self, method: str, path: str, parameters: Mapping[str, Any], body: Any = None, *, key: str | None = None
    ) -> Any:
        from ebs.client.steps import checked, decoded

        given = {name: value for name, value in parameters.items() if value is not None}
        # httpx would send None as the body `null`.
        content = {} if body is None else {"json": body}
        return decoded(checked(self._send(method, path, params=given, headers=_key_header(key), **content)), Any)

    def _send(self, method: str, path: str, **options: Any) -> Reply:
        import httpx

        from ebs.client.http import CONNECT_S, TIMEOUT_S, failure_of, reply_of

        try:
            try:
                answer = self._request(method, path, **options)
            except httpx.ConnectTimeout:
                self._say(f"no API answers at {self._base_url} yet; trying for {CONNECT_S:g} s more")
                patient = httpx.Timeout(TIMEOUT_S, connect=CONNECT_S)
                answer = self._request(method, path, timeout=patient, **options)
        except httpx.RequestError as error:
            raise failure_of(error, self._base_url, TIMEOUT_S) from None
        return reply_of(answer, answer.content)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request. Says so if the answer is slow, unless the request itself asks the API to wait."""
        from ebs.client.http import TIMEOUT_S

        said = f"waiting for an answer from {self._base_url}, up to {TIMEOUT_S:g} s"
        timer = threading.Timer(_SILENT_S, self._say, (said,))
        timer.daemon = True
        if not (options.get("params") or {}).get("wait"):
            timer.start()
        try:
            return self._client.request(method, path, **options)
        finally:
            timer.cancel()


def _key_header(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}
