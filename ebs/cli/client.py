"""The client of the HTTP API that the `ebs` commands share: any path, JSON in and out, a message if an answer is slow.

It carries out the steps of `ebs.client`, which has everything else: the address of the API, the use of httpx, the
meaning of answers and errors, the retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from ebs.client.errors import ApiError as ApiError  # noqa: PLC0414  # what all commands catch
from ebs.client.segments import api_path
from ebs.client.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import httpx

    from ebs.client.steps import Steps

T = TypeVar("T")


def path_of(*parts: str) -> str:
    """Return the path of these parts under `/api`, whatever characters an id has. Raises `ApiError`."""
    try:
        return api_path(*parts)
    except ValueError:
        raise ApiError("an id, a kind or the name of a worker is empty: give one") from None


class ApiClient:
    """Asks the API at `base_url` with an API `key`; tests bring a `transport`. Every call raises `ApiError`.

    `say(line)` hears that nobody has answered so far (`ebs.cli.driver`).
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str = "",
        transport: httpx.BaseTransport | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        from ebs.cli.driver import TellingDriver

        self._driver = TellingDriver(ClientSettings(base_url, key), transport, say)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._driver.http.close()

    def run(self, steps: Steps[T]) -> T:
        """Carry out an operation of `ebs.client`, and return what it comes to."""
        return self._driver.run(steps)

    def get(self, path: str, **parameters: Any) -> Any:
        """GET; parameters that are None are left out."""
        return self._ask("GET", path, parameters)

    def post(self, path: str, body: Any = None, *, key: str | None = None, **parameters: Any) -> Any:
        """POST a JSON body, or none; with an idempotency key."""
        return self._ask("POST", path, parameters, body, key=key)

    def put(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """PUT a JSON body, or none."""
        return self._ask("PUT", path, parameters, body)

    def delete(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """DELETE, with a JSON body where a reason goes along."""
        return self._ask("DELETE", path, parameters, body)

    def _ask(
        self, method: str, path: str, parameters: Mapping[str, Any], body: Any = None, *, key: str | None = None
    ) -> Any:
        """Ask once: whoever typed a command sees at once that it failed, and can repeat it."""
        import msgspec

        from ebs.client.bodies import key_header
        from ebs.client.steps import JSON, ApiCall, CallPolicy, call, decoded

        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else JSON
        asked = ApiCall(method, path, parameters, content, headers | key_header(key))
        return decoded(self.run(call(CallPolicy(retries=0), asked)), Any)
