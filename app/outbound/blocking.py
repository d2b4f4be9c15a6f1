"""The same guard for threads: transfers of gigabytes, which read and write files beside the event loop."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator

import httpcore
import httpx

from app.errors import InvalidParam
from app.outbound.reach import PUBLIC, Reach
from app.outbound.transport import AddressRefused, require_in_reach, translated


class BlockingGuardedTransport(httpx.BaseTransport):
    """A transport of httpx that connects to what is in reach, as `GuardedTransport` does."""

    def __init__(self, reach: Reach = PUBLIC, *, tls: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or httpx.create_ssl_context(), max_connections=None, network_backend=_Backend(reach)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError; InvalidParam for a refused address: that is no trouble that could pass."""
        url = request.url
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with translated(request):
            try:
                answer = self._pool.handle_request(asked)
            except AddressRefused as refused:
                raise InvalidParam(f"{refused}.", params="model") from None
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer, request), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """An answer's body, whose errors are httpx's too."""

    def __init__(self, answer: httpcore.Response, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        with translated(self._request):
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Backend(httpcore.NetworkBackend):
    """Resolves a name once, judges every address that it has, and connects to the first that answers."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port)
        require_in_reach(self._reach, host, addresses, port)
        failed: httpcore.ConnectError | None = None
        for address in addresses:
            try:
                return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        raise AddressRefused("A socket of this machine is not public")


def _resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order that the system prefers; each once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError):
        raise httpcore.ConnectError(f"The name {host} can't be resolved") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))
