"""Fetching a file from an address that a caller names: through the guard, once, held to a size and a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote

import httpcore
import httpx

from app.errors import InvalidParam

_MOST_REDIRECTS = 5
_NAMED = re.compile(r"filename\*\s*=\s*(?:UTF-8|utf-8)''([^;]+)|filename\s*=\s*\"?([^\";]+)\"?")
# What comes packed would have to be unpacked, to who knows how much.
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "Atelier"}


class Fetched(NamedTuple):
    """An answer whose body has not been read yet. `filename` is without folders, and may be empty."""

    filename: str
    announced: int | None
    body: AsyncIterator[bytes]


def fetching_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client for remote files over a guarded transport."""
    return httpx.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=True, max_redirects=_MOST_REDIRECTS, headers=_HEADERS
    )


@asynccontextmanager
async def fetched(client: httpx.AsyncClient, url: str, field: str, within_s: float) -> AsyncIterator[Fetched]:
    """The file at the URL for the length of a block, which may last `within_s`. Raises InvalidParam with a reason."""
    host = httpx.URL(url).host[:100]
    try:
        async with asyncio.timeout(within_s), client.stream("GET", url, timeout=within_s) as answer:
            if answer.status_code != 200:
                raise _refusal(field, host, f"it answered {answer.status_code}")
            announced = answer.headers.get("content-length", "")
            size = int(announced) if announced.isdecimal() else None
            yield Fetched(_filename(answer), size, answer.aiter_raw())
    except (TimeoutError, httpx.TimeoutException):
        raise _refusal(field, host, f"it took more than {within_s:g} s") from None
    except httpx.TooManyRedirects:
        raise _refusal(field, host, f"it redirects more than {_MOST_REDIRECTS} times") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpcore.UnsupportedProtocol) as error:
        raise _refusal(field, host, str(error)[:200] or type(error).__name__) from None


def _refusal(field: str, host: str, reason: str) -> InvalidParam:
    return InvalidParam(f"The file at {host} could not be fetched: {reason}", params=field)


def _filename(answer: httpx.Response) -> str:
    named = _NAMED.search(answer.headers.get("content-disposition", ""))
    name = unquote(named[1]) if named and named[1] else named[2] if named else unquote(answer.url.path)
    return name.replace("\\", "/").rpartition("/")[2]
