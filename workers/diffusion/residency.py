"""Which checkpoints are in memory: the last few that were used."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from app.errors import CheckpointUnavailable
from workers.diffusion.memory import give_back_memory
from workers.diffusion.pipeline import Pipeline
from workers.diffusion.request import Weights

Stamp = tuple[int, int]  # modification time in ns and size in bytes: another stamp, another file


class Residency:
    """At most `limit` pipelines; the one not used for longest makes room for a new one."""

    def __init__(self, limit: int, load: Callable[[Weights], Pipeline]) -> None:
        self._limit = max(limit, 1)
        self._load = load
        self._held: OrderedDict[Weights, tuple[Stamp, Pipeline]] = OrderedDict()
        self.load_s = 0.0  # how long the last load took

    @property
    def held(self) -> list[Weights]:
        """Least recently used first."""
        return list(self._held)

    def has(self, weights: Weights) -> bool:
        return weights in self._held

    def fits(self, weights: Weights) -> bool:
        """Would it come into memory without another one leaving?"""
        return weights in self._held or len(self._held) < self._limit

    def pipeline(self, weights: Weights) -> Pipeline:
        """The pipeline, loaded unless it is here. Raises CheckpointUnavailable."""
        if weights not in self._held:
            self.bring(weights)
        self._held.move_to_end(weights)
        return self._held[weights][1]

    def bring(self, weights: Weights) -> float:
        """Loads it unless it is here and its files are as they were; returns how many seconds that took.

        Raises CheckpointUnavailable.
        """
        took_s = 0.0
        stamp = _stamp(Path(weights.path))
        held = self._held.pop(weights, None)
        if held is None or held[0] != stamp:
            held, began_s = None, time.monotonic()  # a file that was replaced: the old weights go before the new come
            self._make_room()
            held = (stamp, self._load(weights))
            self.load_s = took_s = time.monotonic() - began_s
        self._held[weights] = held
        return took_s

    def _make_room(self) -> None:
        while len(self._held) >= self._limit:
            self._held.popitem(last=False)
        give_back_memory()


def _stamp(path: Path) -> Stamp:
    """Of a folder: its newest file's time and the sum of its files' sizes."""
    try:
        files = [file.stat() for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path.stat()]
    except OSError as error:
        raise CheckpointUnavailable(
            f"The checkpoint {path.name} is not there any more: {error}.", params="model_name"
        ) from error
    return max((file.st_mtime_ns for file in files), default=0), sum(file.st_size for file in files)
