"""Where callbacks may go: the hosts of EBS_WEBHOOK_HOSTS, and no private address unless it stands there, too.

Names say who may be called. Networks say which addresses may be connected to beside public ones: whoever controls the
DNS of a listed name must not reach what only this network can (server-side request forgery).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from app.events import MAX_URL_CHARS

if TYPE_CHECKING:
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SETTING = "EBS_WEBHOOK_HOSTS"
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# So strict that no two parsers of URLs can read two hosts in it: no user, no backslash, no blank, ASCII only.
_URL = re.compile(
    r"(?i:https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:[/?][!-\[\]-~]*)?"
)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ANY = "*"


class WebhookHosts(NamedTuple):
    """The hosts that may be called: `names` (`*.` in front: all below it, `*`: all), and networks."""

    names: frozenset[str]
    networks: tuple[Network, ...]

    def why_refused(self, url: str) -> str | None:
        """Return why a URL is not called, in words that name the fix; None if it may be."""
        if len(url) > MAX_URL_CHARS:
            return f"a URL may have {MAX_URL_CHARS:,} characters, this one has {len(url):,}"
        match = _URL.fullmatch(url)
        if match is None or int(match["port"] or 0) > 65_535:
            return (
                "it must be a http:// or https:// URL in ASCII, without user, password and fragment, such as "
                "https://shop.example/hooks/ebs"
            )
        host = match["host"].strip("[]").rstrip(".").lower()
        if _address_of(host) is None and _NUMBER.fullmatch(host.rpartition(".")[2]):
            return f"{host} is read as an address by some programs and not by others: write four numbers, or a name"
        if self._has(host):
            return None
        if not self.names and not self.networks:
            return f"callbacks are off: set {SETTING}={host} to allow callbacks to {host}"
        return f"callbacks to {host} are not allowed: add it to {SETTING} of the API and the processing workers"

    def why_address_refused(self, text: str) -> str | None:
        """Return why no connection is made to an address, None if it may be."""
        address = _address_of(text)
        if address is None:
            return f"{text} is not an address"
        if _is_public(address) or any(address in network for network in self.networks):
            return None
        return f"{address} is not a public address: add it, or its network, to {SETTING}"

    def _has(self, host: str) -> bool:
        address = _address_of(host)
        if address is not None:
            listed = any(address in network for network in self.networks)
            return listed or (_ANY in self.names and _is_public(address))
        above = host.split(".")
        below = (f"*.{'.'.join(above[level:])}" for level in range(1, len(above)))
        return host in self.names or _ANY in self.names or any(one in self.names for one in below)


@functools.lru_cache(maxsize=8)
def hosts_of(entries: tuple[str, ...]) -> WebhookHosts:
    """Return what the entries of the setting allow. Raises `ValueError` for one that cannot be understood."""
    names, networks = set(), []
    for entry in entries:
        name = entry.rstrip(".").lower()
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            if name != _ANY and (not _NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal()):
                raise ValueError(
                    f"{entry!r} is not a host: each is a name without scheme, port and path, such as "
                    "hooks.shop.example or *.shop.example, or an address or network, such as 10.0.0.0/8"
                ) from None
            names.add(name)
    return WebhookHosts(frozenset(names), tuple(networks))


def _address_of(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return _within(address) or address


def _within(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, None if it leads to none."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _is_public(address: Address) -> bool:
    is_old_private = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not is_old_private
