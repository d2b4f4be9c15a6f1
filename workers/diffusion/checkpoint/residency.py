"""Which checkpoints are in memory, and which of them leave when another one needs the room."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint.assembly import Address
from workers.diffusion.checkpoint.pipeline import Pipeline
from workers.diffusion.checkpoint.sharing import Pieces, Shelf
from workers.diffusion.memory import give_back_memory, is_out_of_memory
from workers.diffusion.request import Limits, Resident, Weights

Stamp = tuple[int, int]  # modification time in ns and size in bytes: another stamp, another file


@dataclass(frozen=True, slots=True, eq=False)
class Leaver:
    """One that makes way for another of its family, which may have its modules, and their memory but for what is
    `foreign`, because others use it, too.
    """

    pipeline: Pipeline
    foreign: Collection[Address]


@dataclass(slots=True, eq=False)
class _Held:
    stamp: Stamp
    pipeline: Pipeline
    shelf: Shelf
    pieces: Pieces
    since_s: float
    used_s: float
    size: int  # bytes
    vram_size: int


class Residency:
    """Pipelines within a budget of bytes; the one not used for longest makes room for a new one.

    For the engine's thread; `residents` may be read by any. A checkpoint that is larger than the whole budget is loaded
    all the same, alone: the budget is no promise of the device, and a picture is better than none.
    """

    def __init__(
        self, limits: Limits, load: Callable[[Weights, Leaver | None], Pipeline], expected: Callable[[Weights], int]
    ) -> None:
        """`load` may use the modules of one that leaves. `expected`: bytes that a checkpoint will take."""
        self._limits = limits
        self._load = load
        self._expected_bytes = expected
        self._held: OrderedDict[Weights, _Held] = OrderedDict()
        self._expected: dict[Weights, int] = {}  # of those that wait
        self._keep_s: dict[Weights, float | None] = {}  # where somebody asked for another time than the limit
        self._outdated: set[Weights] = set()  # of files that were replaced since: nobody can ask for these again
        self.residents: tuple[Resident, ...] = ()
        self.load_s = 0.0  # how long the last load took
        self._owes_memory = False  # some was freed, and is not given back to the system yet

    @property
    def held(self) -> list[Weights]:
        """Least recently used first."""
        return list(self._held)

    @property
    def size(self) -> int:
        """What all of them take together, in bytes: what they share counts once."""
        return _bytes_of(self._held.values())

    def has(self, weights: Weights) -> bool:
        return weights in self._held

    def fits(self, weights: Weights, busy: Collection[Weights]) -> bool:
        """Would it come into memory without one of the `busy` ones leaving?"""
        if weights in self._held:
            return True
        if weights not in self._expected:
            self._expected[weights] = self._expected_bytes(weights)
        stays = [held for each, held in self._held.items() if each in busy or self._is_pinned(each)]
        return _bytes_of(stays) + self._expected[weights] <= self._limits.budget_bytes

    def peek(self, weights: Weights) -> Pipeline | None:
        """The pipeline, if it is in memory. That is no use of it."""
        held = self._held.get(weights)
        return held.pipeline if held else None

    def pipeline(self, weights: Weights) -> Pipeline:
        """The pipeline, loaded unless it is here. Raises CheckpointUnavailable."""
        if weights not in self._held:
            self.bring(weights)
        self._held.move_to_end(weights)
        held = self._held[weights]
        held.used_s = time.monotonic()
        return held.pipeline

    def bring(self, weights: Weights) -> float:
        """Loads it unless it is here and its files are as they were; returns how many seconds that took.

        Weights with a stamp are of one content, whatever has become of their files since.

        Raises CheckpointUnavailable; a file that is not there pushes nobody out.
        """
        held = self._held.get(weights)
        if held is not None and weights.stamp:
            return 0.0
        stamp = _stamp(weights)
        if held is not None and held.stamp == stamp:
            return 0.0
        began_s = time.monotonic()
        held = None
        self._forget([weights] if weights in self._held else [])  # a replaced file: old weights go before new ones come
        self._expected.pop(weights, 0)
        self._hold(weights, stamp, self._loaded(weights, self._make_way(weights)))
        self.load_s = time.monotonic() - began_s
        return self.load_s

    def keep(self, weights: Weights, asked_s: float | None) -> None:
        """Somebody begins to use it, and says how long it is to stay unused afterwards: see `ImageRequest`.

        Whoever begins last has the last word. It holds, too, where the checkpoint has to leave and come back meanwhile.
        """
        if asked_s is None:
            self._keep_s.pop(weights, None)
        else:
            self._keep_s[weights] = asked_s if asked_s >= 0 else None
        if weights in self._held:
            self._held[weights].used_s = time.monotonic()
            self._publish()

    def dismiss(self, name: str) -> None:
        """The checkpoint of that name is not to stay, unless it is pinned: it leaves when nobody is busy with it.

        Whoever begins to use it until then has the last word.
        """
        for weights in self._held:
            if weights.name == name:
                self._keep_s[weights] = 0.0
        self._publish()

    def let_go(self, busy: Collection[Weights]) -> float | None:
        """Unloads whatever nobody uses and has been kept long enough; returns in how many seconds the next one is due.

        A checkpoint that is busy is in use all the time. To be called once a turn.
        """
        if self._owes_memory:
            self._give_back_memory()
        if len(self._keep_s) > len(self._held):
            stay = self._held.keys() | busy
            self._keep_s = {weights: keep_s for weights, keep_s in self._keep_s.items() if weights in stay}
        ends_s = {weights: end_s for weights in self._held if (end_s := self._end_s(weights)) is not None}
        if not ends_s:
            return None
        now_s = time.monotonic()
        for weights in ends_s.keys() & busy:
            self._held[weights].used_s = now_s
        left_s = {weights: end_s - now_s for weights, end_s in ends_s.items() if weights not in busy}
        self._unload([weights for weights, each_s in left_s.items() if each_s <= 0])
        self._publish()
        return min((each_s for each_s in left_s.values() if each_s > 0), default=None)

    def unload(self, keep: Collection[Weights] = ()) -> None:
        """Unloads all but `keep`, pinned ones too: for when the device has no memory left, whatever the budget says.

        Those that stay forget what they can make again.
        """
        for weights in keep:
            if weights in self._held:
                self._held[weights].pipeline.give_back(recordings=True)
        self._unload([weights for weights in self._held if weights not in keep])

    def drop(self, name: str) -> None:
        """Unloads the checkpoint of that name, pinned or not; whoever is at work with it has it loaded again."""
        self._unload([weights for weights in self._held if weights.name == name])

    def _make_way(self, weights: Weights) -> Leaver | None:
        """For one that is about to be loaded; returns one that it may take the place of.

        One of the same family has tensors of the same sizes: they are read into the memory that the old ones leave,
        which costs the system nothing. For those of another family the memory goes back to it first.
        """
        leaving = self._too_many(self._expected_bytes(weights))
        kin = [self._held[each] for each in leaving if each.family == weights.family]
        self._forget(leaving)
        if len(kin) < len(leaving):
            self._give_back_memory()
        if not kin:
            return None
        # Asked for now: what others were given since they came, such as an autoencoder in full, may be shared, too.
        return Leaver(kin[-1].pipeline, {place for held in self._held.values() for place in held.shelf.pieces()})

    def _loaded(self, weights: Weights, leaver: Leaver | None) -> Pipeline:
        """Where memory runs out, once more without the others. Raises what loading raises."""
        try:
            return self._load(weights, leaver)
        except (RuntimeError, MemoryError) as error:
            if not (self._held or leaver) or not is_out_of_memory(error):
                raise
        leaver = None
        self.unload()  # the error is gone by now, and the tensors that its frames held
        return self._load(weights, None)

    def _hold(self, weights: Weights, stamp: Stamp, pipeline: Pipeline) -> None:
        shelf, now_s = Shelf(pipeline.components), time.monotonic()
        saved = shelf.share(held.shelf for held in self._held.values())
        pieces = shelf.pieces()
        on_gpu = sum(size for (device, _), size in pieces.items() if device != "cpu")
        self._held[weights] = _Held(stamp, pipeline, shelf, pieces, now_s, now_s, sum(pieces.values()), on_gpu)
        self._outdated |= {other for other in self._held if _is_earlier_content(other, weights)}
        self._owes_memory |= saved > 0
        self._unload(self._too_many(0, keep=weights))  # it may have turned out larger than expected
        self._publish()

    def _too_many(self, needed: int, keep: Weights | None = None) -> list[Weights]:
        """Who has to leave so that so many bytes more are within the budget, as far as anybody may.

        Before anybody does, all forget what they can make again.
        """
        leaving: list[Weights] = []
        staying = dict(self._held)
        if _bytes_of(staying.values()) + needed > self._limits.budget_bytes:
            for held in staying.values():
                held.pipeline.give_back()
        for weights in self._held:
            if _bytes_of(staying.values()) + needed <= self._limits.budget_bytes:
                break
            if weights != keep and not self._is_pinned(weights):
                leaving.append(weights)
                del staying[weights]
        return leaving

    def _unload(self, leaving: Collection[Weights]) -> None:
        self._forget(leaving)
        if leaving:
            self._give_back_memory()

    def _forget(self, leaving: Collection[Weights]) -> None:
        for weights in leaving:
            self._held.pop(weights).pipeline.give_back()
            self._outdated.discard(weights)
            self._owes_memory = True
        self._publish()

    def _give_back_memory(self) -> None:
        give_back_memory()
        self._owes_memory = False

    def _is_pinned(self, weights: Weights) -> bool:
        return weights.name in self._limits.pinned and weights not in self._outdated

    def _publish(self) -> None:
        """In one assignment, because other threads read it."""
        self.residents = tuple(self._resident(weights, held) for weights, held in self._held.items())

    def _resident(self, weights: Weights, held: _Held) -> Resident:
        end_s = self._end_s(weights)
        return Resident(weights.name, held.size, held.vram_size, held.since_s, end_s, end_s == held.used_s)

    def _end_s(self, weights: Weights) -> float | None:
        """Until when one that is held stays if nobody uses it; None: until others need the room."""
        keep_s = 0.0 if weights in self._outdated else self._keep_s.get(weights, self._limits.keep_alive_s)
        return None if keep_s is None or self._is_pinned(weights) else self._held[weights].used_s + keep_s


def _bytes_of(held: Collection[_Held]) -> int:
    """Of all of them together, with what they remember: what they share counts once."""
    pieces: Pieces = {}
    for each in held:
        pieces |= each.pieces
    return sum(pieces.values()) + sum(each.pipeline.held_bytes for each in held)


def _is_earlier_content(one: Weights, other: Weights) -> bool:
    return one.stamp != other.stamp and replace(one, stamp=other.stamp) == other


def _stamp(weights: Weights) -> Stamp:
    """The newest of the files' times and the sum of their sizes. Raises CheckpointUnavailable when one is missing."""
    paths = filter(None, (weights.path, weights.vae_path, weights.text_encoder_path))
    try:
        files = [file.stat() for path in paths for file in _files_of(Path(path))]
    except OSError as error:
        raise CheckpointUnavailable(
            f"The checkpoint {weights.name} is not there any more: {error}.", params="model_name"
        ) from error
    return max((file.st_mtime_ns for file in files), default=0), sum(file.st_size for file in files)


def _files_of(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
