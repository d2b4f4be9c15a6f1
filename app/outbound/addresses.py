"""Which addresses are the public Internet's, which lie behind somebody's firewall, and which hold clouds' secrets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# What `is_global` lets through: assignments of protocols, relays of 6to4, and Azure's own server on each machine.
_SPECIAL_V4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv4Network("168.63.129.16/32"))
_UNICAST_V6 = IPv6Network("2000::/3")
# Teredo and its neighbours, documentation, and 6to4, whose addresses hold one of IPv4 that a relay would go to.
_SPECIAL_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")
# The second half of an address of ISATAP begins so, and ends with one of IPv4.
_ISATAP = frozenset((0x00005EFE, 0x02005EFE))
# Where clouds tell a machine who it is, with keys: AWS and most others, its containers, Google, Alibaba, Azure, Oracle.
_SECRETS: frozenset[IPv4Address | IPv6Address] = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
        ),
    )
)


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
    inner = as_v4(found)
    if inner is not None:
        return _is_public_v4(inner)
    if (int(found) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return found in _UNICAST_V6 and found.is_global and not any(found in special for special in _SPECIAL_V6)


def as_v4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The address of IPv4 that one of IPv6 stands for: mapped, or behind NAT64."""
    return None if isinstance(address, IPv4Address) else address.ipv4_mapped or _behind_nat64(address)


def is_secret(address: IPv4Address | IPv6Address) -> bool:
    """True for the addresses at which clouds tell their machines' secrets."""
    return address in _SECRETS


def _is_public_v4(address: IPv4Address) -> bool:
    if address.is_multicast or address.is_reserved or any(address in special for special in _SPECIAL_V4):
        return False
    return address.is_global


def _behind_nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
