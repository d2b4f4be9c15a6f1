"""How far the server may be sent: to public addresses, and to what the keeper's allow-list names besides.

The list (`ATELIER_OUTBOUND_ALLOW`) holds for whatever a caller or a workflow can make the server connect to: nodes that
send requests, files that are fetched, webhooks.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx
import msgspec

from app.errors import SettingsInvalid
from app.outbound.addresses import as_v4, is_public, is_secret
from app.settings import Settings

_PORT = re.compile(r"(?P<rest>\[[^\]]+\](?:/\d+)?|[^:]+):(?P<port>\d{1,5})")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Rule(msgspec.Struct, frozen=True):
    """One entry of the allow-list: a network, or a name; with a port only that one is meant.

    A name that begins with a dot stands for whatever ends with it.
    """

    network: IPv4Network | IPv6Network | None = None
    name: str = ""
    port: int | None = None

    def lets(self, host: str, address: IPv4Address | IPv6Address, port: int) -> bool:
        if self.port not in (None, port):
            return False
        return address in self.network if self.network is not None else self.names(host)

    def names(self, host: str) -> bool:
        return host.endswith(self.name) if self.name.startswith(".") else bool(self.name) and host == self.name


class Reach(msgspec.Struct, frozen=True):
    """What lets the server connect, and what does not. Without rules: public addresses alone.

    `everything` lets private addresses through as well. The addresses at which clouds tell their machines' secrets are
    let through by nothing but a rule for that one address.
    """

    rules: tuple[Rule, ...] = ()
    everything: bool = False

    def lets(self, host: str, address: str, port: int) -> bool:
        """Whether the server may connect to this address, which the host's name has led to."""
        if is_public(address):
            return True
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        plain = as_v4(found) or found
        if is_secret(plain):
            return any(
                rule.network is not None and rule.network.num_addresses == 1 and rule.lets("", plain, port)
                for rule in self.rules
            )
        return self.everything or any(rule.lets(_plain_name(host), plain, port) for rule in self.rules)

    def with_server(self, url: str) -> Reach:
        """The same, and the server of a URL that the keeper has named, wherever it is."""
        read = httpx.URL(url)
        port = read.port or (443 if read.scheme == "https" else 80)
        return msgspec.structs.replace(self, rules=(*self.rules, _rule_of(read.host, port)))

    def may_let(self, host: str, port: int) -> bool:
        """Whether a name that looks private may turn out to be allowed, once it is known where it leads to."""
        name = _plain_name(host)
        fitting = (rule for rule in self.rules if rule.port in (None, port))
        return self.everything or any(rule.network is not None or rule.names(name) for rule in fitting)


PUBLIC = Reach()
EVERYWHERE = Reach(everything=True)


def reach_of(settings: Settings) -> Reach:
    """The reach of this installation. Raises SettingsInvalid, naming the entry that can't be read."""
    return _read(settings.outbound_allow)


def webhook_reach(settings: Settings) -> Reach:
    """Likewise for webhooks, which `webhook_allow_private` lets go into private networks too."""
    return EVERYWHERE if settings.webhook_allow_private else reach_of(settings)


@lru_cache(maxsize=8)
def _read(entries: tuple[str, ...]) -> Reach:
    return Reach(tuple(map(_rule, entries)))


def _rule(entry: str) -> Rule:
    with_port = _PORT.fullmatch(entry)
    rest, port = (with_port["rest"], int(with_port["port"])) if with_port else (entry, None)
    written = rest.lower().replace("[", "").replace("]", "").rstrip(".")
    try:
        network = ip_network(written)
    except ValueError:
        if (
            not _NAME.fullmatch(written)
            or "/" in written
            or _is_all_digits(written)
            or port == 0
            or (port or 0) > 65535
        ):
            raise SettingsInvalid(
                f"ATELIER_OUTBOUND_ALLOW: '{entry}' is no address, network (10.1.0.0/16) or name (wiki.example.org, "
                "*.example.org); each may end with a port (:8080)."
            ) from None
        return Rule(name=written.removeprefix("*"), port=port)
    return Rule(network=network, port=port)


def _rule_of(host: str, port: int) -> Rule:
    try:
        return Rule(network=ip_network(host), port=port)
    except ValueError:
        return Rule(name=_plain_name(host), port=port)


def _is_all_digits(written: str) -> bool:
    """An address with a slip in it must not become a name that never matches."""
    return written.replace(".", "").isdigit()


def _plain_name(host: str) -> str:
    return host.lower().rstrip(".")
