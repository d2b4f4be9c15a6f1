"""What was made before and may be asked for again, as much of it as fits into so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def bytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Remembered(Generic[T]):
    """The values used last. One that alone is larger than `limit` bytes is kept until the next comes."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        self._limit = limit
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made now unless it is remembered."""
        value = self._values.pop(key, None)
        if value is None:
            value = make()
            self.bytes += value.bytes
        self._values[key] = value
        while self.bytes > self._limit and len(self._values) > 1:
            self.bytes -= self._values.popitem(last=False)[1].bytes
        return value

    def forget(self) -> None:
        self._values.clear()
        self.bytes = 0
