"""Puts the gate before an application, as far as the settings want one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from api.access.gate import METRICS_PATHS, Gate
from api.access.keys import keys_from
from api.access.login import routes_of
from api.access.origin import Proxies
from api.access.rates import RateLimit
from api.access.sessions import Sessions
from api.view.answers import LAG_MS_HEADER, LAG_RECORDS_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from api.view.view import View
    from app.settings.settings import Settings

_EXPOSED = ("Location", "Retry-After", "RateLimit", "RateLimit-Policy", LAG_RECORDS_HEADER, LAG_MS_HEADER)


def install(
    app: FastAPI,
    settings: Settings,
    view: View,
    clock_ms: Callable[[], int],
    monotonic_s: Callable[[], float] = time.monotonic,
) -> None:
    """Install the access checks that the settings ask for; without such settings, requests pass unchecked."""
    keys = keys_from(settings)
    proxies = Proxies(settings.trusted_proxies)
    rate_limit = RateLimit(settings.rate_limit_per_s, settings.rate_limit_burst) if settings.rate_limit_per_s else None

    sessions = Sessions(keys, view, lambda: clock_ms() // 1_000)
    if keys:
        app.router.routes.extend(routes_of(sessions))
    if keys or proxies or rate_limit is not None:
        app.add_middleware(
            Gate,
            keys=keys,
            proxies=proxies,
            rate_limit=rate_limit,
            open_paths=METRICS_PATHS if settings.metrics_public else frozenset(),
            sessions=sessions,
            monotonic_s=monotonic_s,
        )
    if settings.cors_origins:
        # Outermost: a browser asks for leave without a key, and may read the 401 that it gets without one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=_EXPOSED,
        )
