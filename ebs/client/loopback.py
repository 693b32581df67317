"""Servers on this machine are reached directly: a proxy (`http_proxy`) has its own loopback address."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, and nobody else can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")


def takes_proxies(url: str) -> bool:
    """Return whether the proxies of the environment are for this address: httpx's `trust_env`."""
    try:
        return not is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return True
