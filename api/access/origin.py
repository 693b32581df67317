"""Where a request comes from if there are proxies: only the headers of trusted proxies count."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SITE_BITS = 64
"""What one customer gets of IPv6: counted address by address, he would be 2**64 clients."""


class Proxies:
    """The proxies whose headers are believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in networks]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._networks)

    def client_of(self, peer: str, headers: Headers) -> str:
        """Return the address of the client: the last one in X-Forwarded-For that is not a trusted proxy."""
        client = peer
        hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]
        while hops and self.trusts(client):
            hop = _bare(hops.pop())
            if _parse(hop) is None:
                break
            client = hop
        return client

    def scheme_of(self, peer: str, headers: Headers, scheme: str) -> str:
        """Return the scheme that the client sees."""
        said = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        return said if said in {"http", "https"} and self.trusts(peer) else scheme

    def trusts(self, address: str) -> bool:
        """Return whether this is a trusted proxy."""
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def counted_as(address: str) -> str:
    """Return the name that an address is counted under."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _SITE_BITS), strict=False))
    return address


def _parse(address: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _bare(hop: str) -> str:
    """Return an address without the port that some proxies add."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.rpartition(":")[0] if hop.count(":") == 1 else hop
