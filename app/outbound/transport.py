"""Connections to addresses that callers name: resolved, judged, and made to the very address that was judged.

A client with this transport can't be led to a private address by any name, redirect or change of DNS, because there is
no second resolution: TLS still verifies the name, the socket goes to the address. It takes no proxy from the
environment, which would resolve for itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpcore
import httpx

from app import clock
from app.outbound.reach import PUBLIC, Reach

_RESOLVERS = 16
_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class AddressRefused(httpcore.ConnectError):
    """A name leads to an address that is not public. It does not say to which: that is nobody's business outside."""


def require_in_reach(reach: Reach, host: str, addresses: Iterable[str], port: int) -> None:
    """One bad address among good ones refuses them all. Raises AddressRefused."""
    if not all(reach.lets(host, address, port) for address in addresses):
        raise AddressRefused(f"{host} leads to an address that is not public (ATELIER_OUTBOUND_ALLOW lists exceptions)")


class GuardedTransport(httpx.AsyncBaseTransport):
    """A transport of httpx that connects to what is in reach: public addresses, unless told otherwise.

    `tls` is how it talks TLS; it may be shared. Without one it is made, from the authorities on disk.
    """

    def __init__(self, reach: Reach = PUBLIC, *, tls: ssl.SSLContext | None = None) -> None:
        self._backend = _Backend(reach)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(), max_connections=None, network_backend=self._backend
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError; for a refused address httpx.ConnectError."""
        url = request.url
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with translated(request):
            answer = await self._pool.handle_async_request(asked)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer, request), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()
        self._backend.close()


class _Body(httpx.AsyncByteStream):
    """An answer's body, whose errors are httpx's too."""

    def __init__(self, answer: httpcore.Response, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translated(self._request):
            async for chunk in self._answer.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, judges every address that it has, and connects to the first that answers."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._sockets = httpcore.AnyIOBackend()
        # Threads of its own: a name server that is silent must not hold up whoever shares the loop's.
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        until_s = None if timeout is None else clock.monotonic() + timeout
        addresses = await self._resolve(host, port, timeout)
        require_in_reach(self._reach, host, addresses, port)
        failed: httpcore.ConnectError | None = None
        for address in addresses:
            left_s = None if until_s is None else max(0.001, until_s - clock.monotonic())
            try:
                return await self._sockets.connect_tcp(address, port, left_s, local_address, socket_options)
            except httpcore.ConnectError as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("A socket of this machine is not public")

    async def sleep(self, seconds: float) -> None:
        await self._sockets.sleep(seconds)

    def close(self) -> None:
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str, port: int, timeout_s: float | None) -> list[str]:
        """The addresses of a name, in the order that the system prefers; each once."""
        ask = asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        try:
            async with asyncio.timeout(timeout_s):
                found = await ask
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"The name {host} was not resolved in time") from None
        except (OSError, UnicodeError, OverflowError):
            raise httpcore.ConnectError(f"The name {host} can't be resolved") from None
        return list(dict.fromkeys(str(each[4][0]) for each in found))


@contextmanager
def translated(request: httpx.Request) -> Iterator[None]:
    """httpcore's errors under the names that httpx gives them."""
    try:
        yield
    except _ERRORS as error:
        names = (kind.__name__ for kind in type(error).__mro__)
        kind = next((getattr(httpx, name) for name in names if hasattr(httpx, name)), httpx.TransportError)
        raise kind(str(error), request=request) from error
