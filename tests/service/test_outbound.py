"""The transport for addresses that callers name: what it connects to, what it refuses, and whom it believes."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import pytest

from app.outbound.reach import EVERYWHERE
from app.outbound.transport import GuardedTransport
from tests.receivers import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=GuardedTransport(), trust_env=False) as client:
        yield client


@pytest.fixture
async def trusting() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=GuardedTransport(EVERYWHERE), trust_env=False) as client:
        yield client


_resolved: list[list[str]] = []


@cache
def _listen() -> None:
    def hear(event: str, details: tuple[object, ...]) -> None:
        if event == "socket.getaddrinfo" and _resolved:
            _resolved[-1].append(str(details[0]))

    sys.addaudithook(hear)  # for the life of the process


@contextmanager
def resolutions() -> Iterator[list[str]]:
    """The names that this process asks the system for while the block runs."""
    _listen()
    _resolved.append([])
    yield _resolved[-1]
    _resolved.pop()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0"])
async def test_whatever_leads_to_this_machine_is_refused_when_it_connects(
    guarded: httpx.AsyncClient, receiver: Receiver, host: str
) -> None:
    with pytest.raises(httpx.ConnectError, match="leads to an address that is not public"):
        await guarded.post(receiver.url(host=host))
    assert receiver.posts == []


async def test_a_name_is_resolved_once_for_each_connection(trusting: httpx.AsyncClient, receiver: Receiver) -> None:
    """What was looked at is what is connected to: a second resolution could have another answer."""
    with resolutions() as resolved:
        await trusting.post(receiver.url(host="localhost"))
    assert [host for host in resolved if host != "127.0.0.1"] == ["localhost"]


async def test_it_is_a_transport_like_any_other(trusting: httpx.AsyncClient, receiver: Receiver) -> None:
    answer = await trusting.post(receiver.url("/a?b=c", host="localhost"), content=b"hello")
    assert (answer.status_code, answer.content) == (200, b"")
    (post,) = receiver.posts
    assert (post.path, post.body) == ("/a?b=c", b"hello")
    assert post.headers["host"] == f"localhost:{receiver.port}"


async def test_errors_are_those_of_httpx(trusting: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await trusting.get("http://127.0.0.1:1/")
    with pytest.raises(httpx.ConnectError, match="can't be resolved"):
        await trusting.get("http://nowhere.invalid/")
    with receiving(hangs=True) as silent, pytest.raises(httpx.ReadTimeout):
        await trusting.post(silent.url(), timeout=0.2)


async def test_a_proxy_of_the_environment_is_not_used(
    guarded: httpx.AsyncClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url(""))
    async with httpx.AsyncClient(transport=GuardedTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://nowhere.invalid/")
    assert receiver.posts == []


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side, with a certificate for `localhost` that clients made from now on trust."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate), *subject], check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return tls


async def test_tls_verifies_the_name_of_the_url(tls: ssl.SSLContext) -> None:
    async with httpx.AsyncClient(transport=GuardedTransport(EVERYWHERE)) as client:
        with receiving(tls=tls) as receiver:
            assert (await client.post(receiver.url(host="localhost"))).status_code == 200
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.post(receiver.url(host="127.0.0.1"))
            assert len(receiver.posts) == 1
