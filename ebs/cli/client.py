"""The client of the HTTP API that the `ebs` commands share: JSON in and out, errors as one sentence."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Self

from app.addresses.loopback import takes_proxies
from app.addresses.segments import api_path
from app.errors import EbsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

TIMEOUT_S = 30.0
"""Longer than the API itself waits for its broker (EBS_PUBLISH_TIMEOUT_S, then EBS_VIEW_WAIT_S)."""
CONNECT_S = 5.0
_FIRST_CONNECT_S = 0.5
"""After it a person is told that nobody answers: within a second of the start of a command."""
_SILENT_S = 0.6
"""After it a person is told that an API which takes connections has not answered yet."""


class ApiError(EbsError):
    """The API refused, failed or does not answer; `problem` is its problem document, empty if there was none.

    `retry_after_s` is when it says to come back, None if it does not.
    """

    def __init__(
        self, message: str, problem: Mapping[str, Any] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.problem = dict(problem or {})
        self.retry_after_s = retry_after_s


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

        self._base_url = base_url
        self._say = say
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(
                base_url=base_url,
                headers=headers,
                transport=transport,
                timeout=httpx.Timeout(TIMEOUT_S, connect=_FIRST_CONNECT_S),
                # Reading the certificates of all authorities takes 20 ms, which plain HTTP can do without.
                verify=not base_url.lower().startswith("http://"),
                trust_env=takes_proxies(base_url),
            )
        except httpx.InvalidURL as error:
            raise ApiError(f"EBS_API_URL={base_url} is not a URL ({error}), such as http://127.0.0.1:8000") from None

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
        headers = {"content-type": "application/x-ndjson"} | _key_header(key)
        answer = self._send("POST", path, content=lines, headers=headers)
        if not answer.is_success:
            self._read(answer)
        try:
            return [json.loads(line) for line in answer.text.splitlines()]
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
        given = {name: value for name, value in parameters.items() if value is not None}
        # httpx would send None as the body `null`.
        content = {} if body is None else {"json": body}
        return self._read(self._send(method, path, params=given, headers=_key_header(key), **content))

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        import httpx

        try:
            try:
                return self._request(method, path, **options)
            except httpx.ConnectTimeout:
                self._say(f"no API answers at {self._base_url} yet; trying for {CONNECT_S:g} s more")
                patient = httpx.Timeout(TIMEOUT_S, connect=CONNECT_S)
                return self._request(method, path, timeout=patient, **options)
        except httpx.UnsupportedProtocol:
            raise ApiError(
                f"EBS_API_URL={self._base_url} is not the URL of an API, such as http://127.0.0.1:8000"
            ) from None
        except httpx.ConnectTimeout:
            raise self._unreachable("it timed out") from None
        except httpx.TimeoutException:
            raise ApiError(
                f"{self._base_url} takes connections and did not answer within {TIMEOUT_S:g} s: if it is the ebs API, "
                "see its log and start it again; if not, name another one with --api URL (EBS_API_URL)"
            ) from None
        except httpx.TransportError as error:
            raise self._unreachable(str(error)) from None

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask; says so if the answer takes longer than one that is about to come, unless it was asked to wait."""
        said = f"waiting for an answer from {self._base_url}, up to {TIMEOUT_S:g} s"
        timer = threading.Timer(_SILENT_S, self._say, (said,))
        timer.daemon = True
        if not (options.get("params") or {}).get("wait"):
            timer.start()
        try:
            return self._client.request(method, path, **options)
        finally:
            timer.cancel()

    def _unreachable(self, reason: str) -> ApiError:
        return ApiError(
            f"no API answers at {self._base_url} ({reason}): start it with `ebs up`, "
            "or name another one with --api URL (EBS_API_URL)"
        )

    def _read(self, answer: httpx.Response) -> Any:
        try:
            content = answer.json()
        except ValueError:
            raise ApiError(
                f"{answer.url} answers {answer.status_code} without JSON: is EBS_API_URL={self._base_url} the ebs API?"
            ) from None
        if answer.is_success:
            return content
        problem = content if isinstance(content, dict) else {}
        retry_after = answer.headers.get("retry-after", "")
        retry_after_s = int(retry_after) if retry_after.isdecimal() else None
        raise ApiError(_explain(problem, answer), problem, retry_after_s)


def _key_header(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _explain(problem: Mapping[str, Any], answer: httpx.Response) -> str:
    errors = problem.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(
            f"{error.get('pointer') or error.get('parameter') or 'the request'}: {error.get('detail')}"
            for error in errors
        )
    return str(problem.get("detail") or f"{answer.url} answers {answer.status_code} {answer.reason_phrase}")
