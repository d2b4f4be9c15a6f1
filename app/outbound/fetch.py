"""One request to an address that somebody named, with its redirects: what comes back is bounded in size and in time.

Every hop is resolved, judged and connected to by the guarded transport.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

import httpx
import msgspec

from app.outbound.inflate import BrokenCoding, Inflater
from app.outbound.reach import Reach
from app.outbound.transport import GuardedTransport

MOST_REDIRECTS = 10

_HARMLESS = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-length",
        "content-type",
        "host",
        "range",
        "transfer-encoding",
        "user-agent",
    )
)


class Asked(msgspec.Struct, frozen=True):
    """A request. Only the URL's own server sees its headers; another one, to which it leads on, sees harmless ones."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


class Bounds(msgspec.Struct, frozen=True):
    """What an answer may cost: bytes after decompression, seconds for connecting, for a silence, and for all of it."""

    most_bytes: int
    connect_s: float = 10.0
    read_s: float = 60.0
    write_s: float = 60.0
    total_s: float | None = None
    verify: bool = True


class Answer(msgspec.Struct, frozen=True):
    """What came back. `headers` have lower-case names; the values of a repeated one are joined by commas."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str
    charset: str | None = None


class FetchFailed(Exception):
    """There is no answer; the message is one sentence, for whoever named the address."""


class AnswerTooLarge(FetchFailed):
    """The answer is larger than the bound. `size` in bytes, as far as that is known; `answer` has no body."""

    def __init__(self, size: int | None, answer: Answer) -> None:
        super().__init__("The answer is too large.")
        self.size = size
        self.answer = answer


async def fetch(asked: Asked, reach: Reach, bounds: Bounds) -> Answer:
    """Sends the request and follows where it is led. Raises FetchFailed; what is not in reach is never connected to."""
    try:
        async with (
            asyncio.timeout(bounds.total_s),
            _client(reach, bounds) as client,
            _answered(client, asked) as response,
        ):
            return await _read(response, bounds.most_bytes)
    except TimeoutError:
        raise FetchFailed(f"{_where(asked.url)} did not answer in full within {bounds.total_s:g} s.") from None
    except httpx.InvalidURL as error:
        raise FetchFailed(f"The URL can't be used: {str(error)[:200]}.") from None
    except httpx.TooManyRedirects:
        raise FetchFailed(f"{_where(asked.url)} led on more than {MOST_REDIRECTS} times.") from None
    except httpx.UnsupportedProtocol:
        raise FetchFailed(f"{_where(asked.url)} led to an address that does not begin with http.") from None
    except httpx.TimeoutException as error:
        raise FetchFailed(f"{_where(asked.url)} {_TIMED_OUT.get(type(error).__name__, 'took too long')}.") from None
    except (httpx.HTTPError, ssl.SSLError, BrokenCoding) as error:
        said = str(error)[:300].rstrip(".") or type(error).__name__
        raise FetchFailed(f"The request to {_where(asked.url)} failed: {said}.") from None


_TIMED_OUT = {
    "ConnectTimeout": "could not be connected to in time",
    "ReadTimeout": "fell silent for too long",
    "WriteTimeout": "took what it was sent too slowly",
}


@lru_cache(maxsize=2)
def _tls(verify: bool) -> ssl.SSLContext:
    """Authorities are read from disk: once for a process, 20 ms."""
    return httpx.create_ssl_context(verify=verify)


@asynccontextmanager
async def _client(reach: Reach, bounds: Bounds) -> AsyncIterator[httpx.AsyncClient]:
    timeout = httpx.Timeout(connect=bounds.connect_s, read=bounds.read_s, write=bounds.write_s, pool=None)
    transport = GuardedTransport(reach, tls=_tls(bounds.verify))
    headers = {"user-agent": "Atelier", "accept": "*/*", "accept-encoding": "gzip, deflate"}
    client = httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout, headers=headers)
    async with client:
        yield client


@asynccontextmanager
async def _answered(client: httpx.AsyncClient, asked: Asked) -> AsyncIterator[httpx.Response]:
    """The answer at the end of all redirects, with its body unread."""
    request = client.build_request(
        asked.method,
        asked.url,
        headers=[(name.encode(), value.encode()) for name, value in asked.headers],
        content=asked.body,
    )
    for _ in range(MOST_REDIRECTS + 1):
        response = await client.send(request, stream=True, follow_redirects=False)
        led_to = response.next_request
        if led_to is None:
            try:
                yield response
            finally:
                await response.aclose()
            return
        await response.aclose()
        if not _is_same_server(request.url, led_to.url):
            for name in set(led_to.headers) - _HARMLESS:
                del led_to.headers[name]
        request = led_to
    raise httpx.TooManyRedirects("Too many redirects", request=request)


def _is_same_server(one: httpx.URL, other: httpx.URL) -> bool:
    """A step up to TLS on the usual ports is no change."""
    ports = {"http": 80, "https": 443}
    here, there = ((url.port or ports.get(url.scheme, 0)) for url in (one, other))
    is_upgrade = (one.scheme, here, other.scheme, there) == ("http", 80, "https", 443)
    return one.host == other.host and (is_upgrade or (one.scheme, here) == (other.scheme, there))


async def _read(response: httpx.Response, most_bytes: int) -> Answer:
    """The body, decompressed as it comes: what would grow beyond the bound is not even made."""
    answer = Answer(response.status_code, _headers(response), b"", str(response.url), response.charset_encoding)
    has_body = response.request.method != "HEAD" and response.status_code not in (204, 304)
    announced = response.headers.get("content-length", "")
    coding = response.headers.get("content-encoding", "")
    if has_body and not coding and announced.isdigit() and int(announced) > most_bytes:
        raise AnswerTooLarge(int(announced), answer)
    inflater = Inflater.of(coding)
    if inflater is None:
        raise FetchFailed(f"{_where(str(response.url))} answered in the encoding '{coding[:50]}', which is not known.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        for piece in inflater.feed(chunk):
            body += piece
            if len(body) > most_bytes:
                raise AnswerTooLarge(None, answer)
    return msgspec.structs.replace(answer, body=bytes(body))


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _where(url: str) -> str:
    """The host of a URL, as it may be told: the rest may hold secrets."""
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL:
        return "The URL"
    port = "" if read.port is None else f":{read.port}"
    return f"{read.host or 'The URL'}{port}"
