"""Which dialect a request speaks, so that whatever is wrong with it is told in that one's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Scope

from app.errors import AtelierError, NotFound

RenderError = Callable[[AtelierError], Response]

DOOR = "atelier.door"
"""Where the scope of a request names the dialect of the port that it came in by."""


class UnknownPath(NotFound):
    """There is no such path. Some dialects say that in other words than they say that a thing is not there."""


class ErrorShapes:
    """The one place where an error becomes a response: in the shape of the longest prefix that fits the path.

    A port of a dialect's own comes before the path: what is unknown there is unknown in its words.
    """

    def __init__(
        self, otherwise: RenderError, by_prefix: Mapping[str, RenderError], by_door: Mapping[str, RenderError]
    ) -> None:
        self._otherwise = otherwise
        self._by_prefix = sorted(by_prefix.items(), key=lambda item: -len(item[0]))
        self._by_door = dict(by_door)

    def render(self, error: AtelierError, scope: Scope) -> Response:
        path: str = scope["path"]
        for prefix, render in self._by_prefix:
            if path.startswith(prefix):
                return render(error)
        return self._by_door.get(scope.get(DOOR, ""), self._otherwise)(error)
