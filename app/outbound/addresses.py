"""Which addresses the server may be sent to by a caller: the public Internet's, and none behind its own firewall.

What a URL says is looked at when it comes in, to tell the caller at once; what its name leads to is looked at with
each connection (`app.outbound.transport`), so that a name that changes its address later finds nothing.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from app.errors import InvalidParam

LONGEST_URL = 2048

# What `is_global` lets through: assignments of protocols, and relays of 6to4.
_SPECIAL_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_UNICAST_V6 = IPv6Network("2000::/3")
# Teredo and its neighbours, documentation, and 6to4, whose addresses hold one of IPv4 that a relay would go to.
_SPECIAL_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PRIVATE_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa")


def is_public(address: str) -> bool:
    """True for an address that anybody on the Internet may connect to; False for whatever can't be read as one.

    An address of IPv6 that stands for one of IPv4 (mapped, or behind NAT64) is as public as that.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return _is_public_v4(found)
    inner = found.ipv4_mapped or _behind_nat64(found)
    if inner is not None:
        return _is_public_v4(inner)
    return found in _UNICAST_V6 and found.is_global and not any(found in special for special in _SPECIAL_V6)


def check_url(url: str, field: str, *, allow_private: bool = False) -> str:
    """The host that an http or https URL leads to. Raises InvalidParam, naming the field.

    `allow_private` lets private addresses and names through. A URL with a name and a password is always refused:
    it would be stored and shown.
    """
    if len(url) > LONGEST_URL:
        raise InvalidParam(f"{field} is longer than {LONGEST_URL} characters", params=field)
    try:
        if not url.isascii():
            raise httpx.InvalidURL("it has characters that a URL writes with %")
        read = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidParam(f"{field} is not a URL: {str(error)[:100]}", params=field) from None
    is_port = read.port is None or 0 < read.port < 65536
    if read.scheme not in ("http", "https") or not _HOST.fullmatch(read.raw_host) or not is_port:
        raise InvalidParam(f"{field} must begin with https:// or http://, a host and, if need be, a port", params=field)
    if read.userinfo:
        raise InvalidParam(f"{field} must not contain a name or a password", params=field)
    if not allow_private and _is_private_host(read.host):
        raise InvalidParam(f"{field} leads to an address that is not public: {read.host[:100]}", params=field)
    return read.host


def _is_private_host(host: str) -> bool:
    literal = _literal(host)
    if literal is not None:
        return not is_public(literal)
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith(_PRIVATE_NAMES)


def _literal(host: str) -> str | None:
    """The address that a host is written as, also in the forms that C has always read: 2130706433, 0x7f.1, 0177.0.1."""
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return str(IPv4Address(socket.inet_aton(host)))
    except OSError:
        return None


def _is_public_v4(address: IPv4Address) -> bool:
    if address.is_multicast or address.is_reserved or any(address in special for special in _SPECIAL_V4):
        return False
    return address.is_global


def _behind_nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
