"""URLs that callers name, as far as they can be judged by what they say.

That is looked at when a URL comes in, to tell the caller at once; what its name leads to is looked at with each
connection (`app.outbound.transport`), so that a name that changes its address later finds nothing.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, ip_address

import httpx

from app.errors import InvalidParam
from app.outbound.reach import PUBLIC, Reach

LONGEST_URL = 2048

_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PRIVATE_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa")


def check_url(url: str, field: str, reach: Reach = PUBLIC) -> str:
    """The host that an http or https URL leads to. Raises InvalidParam, naming the field.

    A URL with a name and a password is always refused: it would be stored and shown.
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
    if not _is_let(read, reach):
        raise InvalidParam(f"{field} leads to an address that is not public: {read.host[:100]}", params=field)
    return read.host


def _is_let(url: httpx.URL, reach: Reach) -> bool:
    host, port = url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80)
    literal = _literal(host)
    if literal is not None:
        return reach.lets(host, literal, port)
    name = host.rstrip(".").lower()
    return not ("." not in name or name.endswith(_PRIVATE_NAMES)) or reach.may_let(host, port)


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
