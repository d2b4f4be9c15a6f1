"""Work that others need not wait for: on a GPU in a stream of its own, beside the next UNet call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Work = Callable[[], Sequence[torch.Tensor]]


class Pending(Protocol):
    """What becomes of a piece of work."""

    @property
    def is_ready(self) -> bool: ...

    def wait(self) -> Sequence[torch.Tensor]:
        """Its results, on the CPU."""


class Side(Protocol):
    def start(self, work: Work, uses: Sequence[torch.Tensor]) -> Pending:
        """`uses`: the tensors that `work` needs besides weights. Raises what `work` raises before any of it is done."""

    def finish(self) -> None:
        """Until all that was started is done: to be called before weights go, or change."""


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    results: Sequence[torch.Tensor]
    is_ready: bool = True

    def wait(self) -> Sequence[torch.Tensor]:
        return self.results


class Here:
    """Where there are no streams: at once."""

    def start(self, work: Work, uses: Sequence[torch.Tensor]) -> Pending:
        return _Done([result.cpu() for result in work()])

    def finish(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Fetched:
    results: Sequence[torch.Tensor]
    end: Any

    @property
    def is_ready(self) -> bool:
        return bool(self.end.query())

    def wait(self) -> Sequence[torch.Tensor]:
        self.end.synchronize()
        return self.results


class Beside:
    """A CUDA stream. Results are fetched into pinned memory, so that nobody waits for that either."""

    def __init__(self, device: torch.device, *, pinned: bool = True) -> None:
        self._device = device
        self._pinned = pinned
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, work: Work, uses: Sequence[torch.Tensor]) -> Pending:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for tensor in uses:
                tensor.record_stream(self._stream)  # its memory is nobody else's before this stream is done with it
            made = work()
            fetched = [self._fetched(each) for each in made]
            end = torch.cuda.Event()  # type: ignore[no-untyped-call]
            end.record(self._stream)
        return _Fetched(fetched, end)

    def _fetched(self, each: torch.Tensor) -> torch.Tensor:
        """On its way to the CPU; there already where the system has no pinned memory to give."""
        if self._pinned:
            try:
                return torch.empty(each.shape, dtype=each.dtype, pin_memory=True).copy_(each, non_blocking=True)
            except RuntimeError:
                pass
        return each.cpu()

    def finish(self) -> None:
        self._stream.synchronize()
