"""The gate in front of all routes: it checks the key or session, the scope, and the rate limit.

Reading (GET, HEAD, OPTIONS) needs a key of scope read, everything else a key of scope write. Probes, the login and the
files of its page are open. Requests that the dashboard makes to the API inside of a request pass the gate again, with
the key or session of that request.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse

from api.access.keys import READ, WRITE
from api.access.origin import counted_as
from api.dashboard.inside import RIGHTS, outer_of
from api.dashboard.negotiation import wants_page
from api.dashboard.problems import problem_page
from api.server import problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from api.access.keys import Holder, Keys
    from api.access.origin import Proxies
    from api.access.rates import RateLimit, Verdict
    from api.access.sessions import Sessions

SESSION_COOKIE = "ebs_session"
LOGIN_PATH = "/login"
METRICS_PATHS = frozenset({"/metrics", "/api/metrics"})

_PROBES = frozenset({"/livez", "/readyz", "/api/livez", "/api/readyz"})
_OPEN = _PROBES | {LOGIN_PATH, "/logout", "/favicon.ico"}
_STATIC = "/static/"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REALM = 'Bearer realm="ebs"'


class Gate:
    """ASGI middleware; `monotonic_s` tells the rate limit its time."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        proxies: Proxies,
        rate_limit: RateLimit | None,
        open_paths: frozenset[str],
        sessions: Sessions,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._app = app
        self._keys = keys
        self._proxies = proxies
        self._rate_limit = rate_limit
        self._open_paths = _OPEN | open_paths
        self._sessions = sessions
        self._monotonic_s = monotonic_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or answer 401, 403 or 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        outer = outer_of(scope)
        if outer is not None:
            await self._pass_inside(outer, scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._see_behind_proxies(scope, headers)
        holder, cookie = self._caller_of(headers)
        if self._rate_limit is not None and scope["path"] not in _PROBES:
            verdict = self._rate_limit.take(_counted(scope, holder), self._monotonic_s())
            send = _telling(self._rate_limit, verdict, send)
            if not verdict.allowed:
                await _answer(scope, _too_many(verdict, self._rate_limit))(scope, receive, send)
                return
        if cookie is not None and not self._is_open(scope["path"]):
            try:
                await self._sessions.wait_until_known()
            except problems.Problem as error:
                await _answer(scope, error)(scope, receive, send)
                return
            holder, _ = self._caller_of(headers)
            send = self._sessions.sending(cookie, send)
        refusal = self._refusal(scope, headers, holder)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        # In place: what is around us reads the route from this scope afterwards.
        scope[RIGHTS] = _scopes_of(self._keys, holder)
        await self._app(scope, receive, send)

    async def _pass_inside(self, outer: Scope, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = _needed(scope) in outer[RIGHTS] or self._is_open(scope["path"])
        app = self._app if allowed else _answer(scope, _forbidden())
        await app(scope, receive, send)

    def _see_behind_proxies(self, scope: Scope, headers: Headers) -> None:
        """Set the client and the scheme in the scope, as reported by a trusted proxy."""
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._proxies or not self._proxies.trusts(peer):
            return
        client = self._proxies.client_of(peer, headers)
        scheme = self._proxies.scheme_of(peer, headers, scope.get("scheme", "http"))
        scope.update(client=(client, 0), scheme=scheme)

    def _caller_of(self, headers: Headers) -> tuple[Holder | None, str | None]:
        """Return the caller, and the cookie of the session if the caller has no key but a session."""
        if not self._keys:
            return None, None
        key = _key_of(headers)
        if key is not None:
            return self._keys.holder_of(key), None
        cookie = cookie_parser(headers.get("cookie", "")).get(SESSION_COOKIE, "")
        session = self._sessions.find(cookie)
        return (None, None) if session is None else (session.holder, cookie)

    def _refusal(self, scope: Scope, headers: Headers, holder: Holder | None) -> ASGIApp | None:
        if not self._keys or self._is_open(scope["path"]):
            return None
        if holder is None:
            if wants_page(scope) and _key_of(headers) is None:
                return _to_login(scope)
            return _answer(scope, _unauthorized(headers))
        return None if _needed(scope) in holder.scopes else _answer(scope, _forbidden())

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(_STATIC)


def _key_of(headers: Headers) -> str | None:
    """Return the key of the request, None if it has none."""
    key = headers.get("x-api-key")
    if key is not None:
        return key
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _needed(scope: Scope) -> str:
    return READ if scope["method"] in _SAFE_METHODS else WRITE


def _scopes_of(keys: Keys, holder: Holder | None) -> frozenset[str]:
    if holder is not None:
        return holder.scopes
    return frozenset() if keys else frozenset({READ, WRITE})


def _counted(scope: Scope, holder: Holder | None) -> str:
    if holder is not None:
        return f"key {holder.name}"
    return counted_as(scope["client"][0] if scope.get("client") else "")


def _unauthorized(headers: Headers) -> problems.Problem:
    is_wrong = _key_of(headers) is not None
    detail = (
        "the API does not know this key: it may have been removed from EBS_API_KEYS_READ and EBS_API_KEYS_WRITE"
        if is_wrong
        else "this API needs a key: send Authorization: Bearer KEY, or X-API-Key; the ebs commands take EBS_API_KEY"
    )
    challenge = _REALM + (', error="invalid_token"' if is_wrong else "")
    return problems.Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def _forbidden() -> problems.Problem:
    challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{WRITE}"'}
    detail = "this key may read only: use one of EBS_API_KEYS_WRITE"
    return problems.Problem(HTTPStatus.FORBIDDEN, "missing-scope", detail, headers=challenge)


def _too_many(verdict: Verdict, limit: RateLimit) -> problems.Problem:
    detail = f"more than {limit.per_s:g} requests a second come from this client (EBS_RATE_LIMIT_PER_S)"
    headers = {"Retry-After": str(max(1, math.ceil(verdict.retry_after_s)))}
    return problems.Problem(HTTPStatus.TOO_MANY_REQUESTS, "rate-limited", detail, headers=headers)


def _answer(scope: Scope, problem: problems.Problem) -> ASGIApp:
    request = Request(scope)
    if wants_page(scope) and not scope["path"].startswith("/api/"):
        page = {"title": problem.status.phrase, "detail": problem.detail}
        return problem_page(request, problem.status, page, problem.headers)
    answer = problems.answer(request, problem)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _to_login(scope: Scope) -> ASGIApp:
    # A form that was sent without a session cannot be sent again by a redirect: its page can be asked for again.
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "") if scope["method"] == "GET" else "/"
    return RedirectResponse(f"{LOGIN_PATH}?next={quote(wanted, safe='/')}", 303, {"Cache-Control": "no-store"})


def _telling(limit: RateLimit, verdict: Verdict, send: Send) -> Send:
    """Return a `send` that adds the fields of draft-ietf-httpapi-ratelimit-headers."""

    async def send_telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            window_s = max(1, math.ceil(limit.burst / limit.per_s))
            headers["RateLimit-Policy"] = f'"client";q={limit.burst};w={window_s}'
            headers["RateLimit"] = f'"client";r={verdict.remaining};t={math.ceil(verdict.full_after_s)}'
        await send(message)

    return send_telling
