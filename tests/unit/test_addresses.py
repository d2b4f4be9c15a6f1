"""Which addresses and URLs a caller may send the server to."""

from __future__ import annotations

import pytest

from app.errors import InvalidParam, SettingsInvalid
from app.outbound.addresses import is_public
from app.outbound.reach import EVERYWHERE, Reach, reach_of
from app.outbound.urls import check_url
from app.settings import Settings


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "93.184.215.14",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "168.63.129.16",
        "100.100.100.200",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
        "fd00:ec2::254",
        "5f00::1",
        "fc00::1",
        "fd12:3456:789a::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "",
        "example.com",
    ],
)
def test_every_other_address_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/hook?x=1", "example.com"),
        ("http://EXAMPLE.com:8080", "example.com"),
        ("https://8.8.8.8/", "8.8.8.8"),
        ("https://[2606:4700:4700::1111]:8443/", "2606:4700:4700::1111"),
        ("https://xn--bcher-kva.example.org/", "b\u00fccher.example.org"),
    ],
)
def test_a_url_of_the_internet_gives_its_host(url: str, host: str) -> None:
    assert check_url(url, "url") == host


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0/",
        "http://169.254.1.1/",
        "http://[::1]:8000/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://localhost/",
        "http://LOCALHOST:8000/",
        "http://localhost./",
        "http://api.localhost/",
        "http://postgres:5432/",
        "http://printer.local/",
        "http://metadata.google.internal/",
    ],
)
def test_a_private_url_is_refused_unless_that_is_allowed(url: str) -> None:
    with pytest.raises(InvalidParam, match="not public") as refused:
        check_url(url, "webhook_url")
    assert refused.value.params == "webhook_url"
    assert check_url(url, "webhook_url", EVERYWHERE)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///hook",
        "https://example.com:99999/",
        "https://me:secret@example.com/",
        "https://me@example.com/",
        "https://b\u00fccher.example.org/",
        "https://example.com/\0",
        "https://example.com/\n",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://localhost%00.example.com/",
        "http://0177.0.0.1/",
        "http://[::1/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_what_is_no_http_url_is_refused_even_where_private_ones_are_allowed(url: str) -> None:
    with pytest.raises(InvalidParam) as refused:
        check_url(url, "url", EVERYWHERE)
    assert refused.value.params == "url"
    assert "secret" not in refused.value.message


def _reach(*entries: str) -> Reach:
    return reach_of(Settings(outbound_allow=entries))


@pytest.mark.parametrize(
    ("entry", "host", "address", "port"),
    [
        ("10.1.2.3", "anything.example.org", "10.1.2.3", 80),
        ("10.1.0.0/16", "10.1.2.3", "10.1.2.3", 443),
        ("10.1.0.0/16", "[::ffff:10.1.2.3]", "::ffff:10.1.2.3", 80),
        ("10.1.0.0/16:8080", "10.1.2.3", "10.1.2.3", 8080),
        ("127.0.0.1:11434", "localhost", "127.0.0.1", 11434),
        ("fd00::/8", "x.example.org", "fd12::1", 80),
        ("[::1]:8000", "localhost", "::1", 8000),
        ("wiki.example.org", "WIKI.example.org.", "10.9.9.9", 80),
        ("*.example.org", "a.b.example.org", "192.168.0.7", 80),
        ("postgres:80", "postgres", "172.18.0.2", 80),
        ("169.254.169.254", "169.254.169.254", "169.254.169.254", 80),
    ],
)
def test_what_the_allow_list_names_is_in_reach(entry: str, host: str, address: str, port: int) -> None:
    assert not _reach().lets(host, address, port)
    assert _reach("203.0.113.0/24", entry).lets(host, address, port)


@pytest.mark.parametrize(
    ("entry", "host", "address", "port"),
    [
        ("10.1.0.0/16", "10.2.0.1", "10.2.0.1", 80),
        ("10.1.0.0/16:8080", "10.1.2.3", "10.1.2.3", 80),
        ("127.0.0.1:11434", "127.0.0.2", "127.0.0.2", 11434),
        ("wiki.example.org", "evil-wiki.example.org", "10.9.9.9", 80),
        ("wiki.example.org", "wiki.example.org.evil.net", "10.9.9.9", 80),
        ("*.example.org", "example.org", "10.9.9.9", 80),
        ("*.example.org", "evilexample.org", "10.9.9.9", 80),
        ("0.0.0.0/0", "x.example.org", "::1", 80),
        # Where clouds keep their secrets: not by a network, not by a name.
        ("169.254.0.0/16", "169.254.169.254", "169.254.169.254", 80),
        ("0.0.0.0/0", "x.example.org", "::ffff:169.254.169.254", 80),
        ("*.example.org", "x.example.org", "169.254.169.254", 80),
        ("fd00::/8", "x.example.org", "fd00:ec2::254", 80),
    ],
)
def test_what_it_does_not_name_is_not(entry: str, host: str, address: str, port: int) -> None:
    assert not _reach(entry).lets(host, address, port)


def test_where_clouds_keep_their_secrets_is_out_of_reach_even_where_all_else_is_in() -> None:
    assert EVERYWHERE.lets("x", "10.0.0.1", 80)
    assert not EVERYWHERE.lets("x", "169.254.169.254", 80)


def test_a_private_name_is_let_in_when_a_network_may_hold_it() -> None:
    """Where it leads to is judged when it is known: at the connection."""
    assert check_url("http://printer.local/", "url", _reach("10.0.0.0/8")) == "printer.local"
    with pytest.raises(InvalidParam, match="not public"):
        check_url("http://printer.local/", "url", _reach("10.0.0.0/8:8080"))


@pytest.mark.parametrize("entry", ["10.0.0.300", "10.0.0.0/33", "https://x.org", "a b", "x.org:0", "x.org:99999", "*"])
def test_an_entry_that_can_not_be_read_stops_the_server(entry: str) -> None:
    with pytest.raises(SettingsInvalid, match="ATELIER_OUTBOUND_ALLOW"):
        _reach(entry)
