"""The engine's thread: takes requests in, gives every group its turns, hands finished pictures out."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from app.errors import NodeFailed, Unavailable
from workers.diffusion.checkpoint.developing import Development
from workers.diffusion.checkpoint.files_ahead import read_ahead
from workers.diffusion.checkpoint.residency import Residency
from workers.diffusion.drawing.painting import Interlude, Painting
from workers.diffusion.loop.curve import Curve
from workers.diffusion.loop.foresight import Foresight
from workers.diffusion.loop.groups import Entry, Group, GroupKey
from workers.diffusion.loop.patience import Patience
from workers.diffusion.loop.stopwatch import Stopwatch
from workers.diffusion.loop.ticket import Chore, Errand, Ticket
from workers.diffusion.loop.turns import Turns
from workers.diffusion.memory import give_back_memory, is_out_of_memory
from workers.diffusion.pictures.images import Pixels
from workers.diffusion.request import Weights

logger = logging.getLogger(__name__)

_LAST_TURN_S = 30.0
_MOST_CURVES = 300
_JOIN_TOGETHER = 4  # requests that may come between two turns

Order = Ticket | Chore[Any] | None
"""What comes in: a request, something to do between two turns, or None for the end."""


class EngineLoop:
    """One thread for one device: text encoders, UNet and autoencoder are used in it alone.

    A turn: whoever is new begins, one group makes one UNet call, one finished drawing is decoded; not before whoever
    came during the call has had one.
    """

    def __init__(self, residency: Residency, device: torch.device) -> None:
        self._residency = residency
        self._device = device
        self._stopwatch = Stopwatch(device)
        self._foresight = Foresight(residency.peek)
        self._inbox: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._curves: OrderedDict[tuple[Weights, int, int], Curve] = OrderedDict()  # least recently asked for first
        self._in_full: dict[Weights, Weights] = {}  # what overflowed in half precision
        self._number = 0
        self._is_closed = False
        self._clear()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that is inside torch when Python ends takes the process down with it

    def give(self, order: Order) -> None:
        """Called by any thread. What comes after the end is told that there is nobody any more."""
        if isinstance(order, Ticket):
            self._foresight.expect(order)
        self._inbox.put(order)
        if self._is_closed:
            self._send_away()

    def close(self) -> None:
        """Ends the thread after its turn, and waits for that. Whoever waits for something is told."""
        atexit.unregister(self.close)
        self.give(None)
        self._thread.join(_LAST_TURN_S)
        self._foresight.close()

    @property
    def waiting(self) -> int:
        """How many requests and drawings are in no UNet call yet."""
        return self._inbox.qsize() + self._waiting

    @property
    def has_room(self) -> bool:
        return not self._waiting and self._inbox.qsize() < _JOIN_TOGETHER

    def _clear(self) -> None:
        self._lobby: deque[Painting] = deque()  # not begun
        self._open: list[Painting] = []
        self._groups: dict[tuple[Weights, GroupKey], Group] = {}
        self._done: deque[tuple[Weights, Entry]] = deque()  # through a pass, and not looked at yet
        self._developing: deque[tuple[Weights, Entry, Development]] = deque()
        self._patience = Patience(self._residency)
        self._turns = Turns()
        self._waiting = 0
        self._held_back = False  # the last turn's decoding

    def _run(self) -> None:
        """Whatever goes wrong here that no painting can be blamed for ends all of them; the next ones start anew."""
        ended = False
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # events and recordings are made on the thread's own
        while not ended:
            try:
                with torch.inference_mode():
                    while not ended:
                        ended = self._turn()
            except Exception as error:
                logger.exception("the engine lost its place", extra={"action": "engine_lost"})
                self._end_all(error)
        self._is_closed = True
        self._end_all(_closed())
        self._send_away()

    def _end_all(self, error: Exception) -> None:
        for painting in self._open:
            painting.fail(error)
        self._clear()

    def _send_away(self) -> None:
        """Who comes when nobody takes orders any more. Any number of threads may do it at once."""
        with suppress(queue.Empty):
            while True:
                order = self._inbox.get_nowait()
                if order is not None:
                    order.fail(_closed())

    def _turn(self) -> bool:
        """True when it was the last one."""
        if self._take_in():
            return True
        self._begin()
        self._tick()
        self._finish()
        self._collect()
        self._forget_ended()
        return False

    def _take_in(self) -> bool:
        """What has come since; without any work it waits for some, or until a checkpoint's time is up. True for the
        end."""
        due_s = self._residency.let_go(self._busy())
        waits = not self._has_work
        while True:
            try:
                order = self._inbox.get(block=waits, timeout=due_s)
            except queue.Empty:
                break
            waits = False
            if order is None:
                return True
            if isinstance(order, Ticket):
                self._number += 1
                weights = order.request.weights
                painting = Painting(self._number, order, self._in_full.get(weights, weights))
                self._open.append(painting)
                self._lobby.append(painting)
                if len(self._open) > 1 and not self._residency.has(painting.weights):
                    read_ahead(weights)
            else:
                order.run()
        for painting in self._open:
            painting.heed()
        return False

    @property
    def _has_work(self) -> bool:
        """False, too, while all open paintings wait for something that their own threads do."""
        return bool(self._developing) or self._is_at_work

    @property
    def _is_idle(self) -> bool:
        return not self._is_at_work and self._inbox.empty()

    @property
    def _is_at_work(self) -> bool:
        return bool(self._lobby or self._done) or any(group.has_work for group in self._groups.values())

    def _begin(self) -> None:
        for painting in list(self._lobby):
            if painting.is_over or self._may_run(painting.weights):
                self._lobby.remove(painting)
                self._do(painting, partial(self._start, painting))

    def _do(self, painting: Painting, work: Callable[[], None]) -> None:
        """A part of the painting: what goes wrong in it ends this painting, and no other. What does not fit into memory
        is done once more when all else has left it.
        """
        failure = _failure_of(work)
        if failure is not None and is_out_of_memory(failure):
            failure = None  # it holds the frames, and the frames hold the tensors
            self._residency.unload(keep=[painting.weights])
            failure = _failure_of(work)
        if failure is not None:
            painting.fail(failure)

    def _start(self, painting: Painting) -> None:
        painting.ticket.is_begun = True
        painting.ticket.in_full = painting.weights.in_full
        if painting.is_over:
            return
        weights = painting.weights
        painting.ticket.load_s += self._residency.bring(weights)
        self._residency.keep(weights, painting.request.keep_alive_s)
        self._patience.comes_in(weights)
        pipeline = self._residency.pipeline(weights)
        pipeline.wear(painting.request.loras)
        for drawing in painting.begin(pipeline):
            self._add(weights, Entry(drawing, painting))

    def _add(self, weights: Weights, entry: Entry) -> None:
        request, (height, width) = entry.painting.request, entry.drawing.latents.shape[-2:]
        key = GroupKey(request.loras, height, width, entry.painting.number if request.exclusive else 0)
        group = self._groups.get((weights, key))
        if group is None:
            group = self._groups[weights, key] = Group(weights, key, self._curve(weights, height, width))
        group.add(entry)

    def _curve(self, weights: Weights, height: int, width: int) -> Curve:
        """What is known of calls of this size; only the sizes asked for lately are remembered."""
        size = weights, height, width
        curve = self._curves.setdefault(size, Curve())
        self._curves.move_to_end(size)
        if len(self._curves) > _MOST_CURVES:
            self._curves.popitem(last=False)
        return curve

    def _tick(self) -> None:
        groups = [group for group in self._groups.values() if group.has_work and self._may_run(group.weights)]
        if not groups:
            return
        group = self._turns.next(groups)
        group.admit()
        paintings = {entry.painting.number: entry.painting for entry in group.active}.values()
        failure = _failure_of(partial(self._dress, group))
        if failure is not None:
            group.fail(failure)
        else:
            failure = _failure_of(partial(self._call, group))
            if failure is not None:
                self._failed(group, failure)
        for painting in paintings:
            painting.tell_progress()
        self._done.extend((group.weights, entry) for entry in group.take_done())

    def _dress(self, group: Group) -> None:
        """Makes the group's checkpoint ready for its call."""
        pipeline = self._residency.pipeline(group.weights)
        self._patience.comes_in(group.weights)
        pipeline.wear(group.key.loras)

    def _call(self, group: Group) -> None:
        unet = self._residency.pipeline(group.weights).unet
        with self._stopwatch.measure(partial(self._note, group, group.row_count)), self._foresight.away():
            group.tick(unet)

    def _note(self, group: Group, rows: int, seconds: float) -> None:
        group.curve.note(rows, seconds)
        self._turns.charge(group, seconds)

    def _failed(self, group: Group, error: Exception) -> None:
        """A call that did not fit is made again with half of the drawings, and with a single one whenever all else can
        leave the memory, and once more when it has. What else goes wrong is the fault of one of them: each is tried by
        itself.
        """
        if is_out_of_memory(error):
            error.__traceback__ = None  # it holds the frames, and the frames hold the tensors
            give_back_memory()
            if group.shrink():
                return
            if self._residency.held != [group.weights] or group.active[0].take_last_chance():
                self._residency.unload(keep=[group.weights])
                self._patience.needs_all(group.weights)
                return
        elif group.is_shared:
            group.tick_apart(self._residency.pipeline(group.weights).unet)
            return
        group.fail(error)

    def _finish(self) -> None:
        """One drawing at a time, so that the others' next call does not wait for a row of decodings; and in the next
        turn where somebody is new, whose first call would wait for it.
        """
        if not self._done:
            return
        self._held_back = not (self._held_back or self._inbox.empty())
        if self._held_back:
            return
        weights, entry = self._done.popleft()
        painting = entry.painting
        painting.heed()
        if not painting.is_over:
            self._do(painting, partial(self._after_pass, weights, entry))

    def _collect(self) -> None:
        """Pictures that are developed, in their order; without other work it waits for the first one."""
        while self._developing and (self._developing[0][2].is_ready or self._is_idle):
            weights, entry, development = self._developing.popleft()
            if not entry.painting.is_over:
                self._do(entry.painting, partial(self._developed, weights, entry, development))

    def _developed(self, weights: Weights, entry: Entry, development: Development) -> None:
        if development.is_sound:
            pixels = development.pixels(lambda: self._residency.pipeline(weights).components.vae)
            entry.painting.finish(entry.drawing, pixels)
        else:
            self._begin_in_full(weights, entry.painting)

    def _begin_in_full(self, weights: Weights, painting: Painting) -> None:
        """Once more from the beginning, and in single precision: half of it may have been too little.

        Whoever comes for these weights from now on has them in full at once. Raises NodeFailed where they are.
        """
        if self._residency.pipeline(weights).components.dtype == torch.float32:
            raise NodeFailed("The denoiser gave no numbers (NaN): the checkpoint's weights are damaged.")
        painting.weights = self._in_full[weights] = replace(weights, in_full=True)
        logger.warning(
            "half precision is too little", extra={"action": "in_full_precision", "checkpoint": weights.name}
        )
        for group in self._groups.values():
            group.drop(painting)
        self._done = deque(each for each in self._done if each[1].painting is not painting)
        self._developing = deque(each for each in self._developing if each[1].painting is not painting)
        self._lobby.append(painting)

    def _after_pass(self, weights: Weights, entry: Entry) -> None:
        painting = entry.painting
        if not (painting.is_last_pass(entry.drawing) or entry.drawing.is_sound):
            self._begin_in_full(weights, painting)
            return
        following = painting.after_pass(self._residency.pipeline(weights), entry.drawing)
        if isinstance(following, Interlude):
            back = partial(self._give_result, weights, painting, following)
            painting.ticket.send(Errand(following.work, back))
        elif isinstance(following, Development):
            self._developing.append((weights, entry, following))
        else:
            self._add(weights, Entry(following, painting))

    def _give_result(
        self, weights: Weights, painting: Painting, interlude: Interlude, result: Pixels | Exception
    ) -> None:
        """Called by the thread that asked."""
        resume = partial(self._resume, weights, painting, interlude, result)
        self.give(Chore(partial(self._do, painting, resume)))

    def _resume(self, weights: Weights, painting: Painting, interlude: Interlude, result: Pixels | Exception) -> None:
        if isinstance(result, Exception):
            raise result
        if not painting.is_over and painting.weights == weights:  # it has not begun again since
            self._add(weights, Entry(interlude.then(self._residency.pipeline(weights), result), painting))

    def _forget_ended(self) -> None:
        ended = [painting for painting in self._open if painting.is_over]
        if ended:
            self._open = [painting for painting in self._open if not painting.is_over]
            for painting in ended:
                for group in self._groups.values():
                    group.drop(painting)
            self._patience.keep(self._busy())
        self._groups = {key: group for key, group in self._groups.items() if group.has_work}
        self._waiting = len(self._lobby) + sum(len(group.waiting) for group in self._groups.values())

    def _busy(self) -> set[Weights]:
        """The checkpoints that somebody is at work with, or waits for."""
        return {painting.weights for painting in self._open}

    def _may_run(self, weights: Weights) -> bool:
        """Is the checkpoint in memory, or may it come in now?"""
        at_work = (group.weights for group in self._groups.values() if group.has_work)
        return self._patience.may_run(weights, self._busy(), at_work)


def _closed() -> Unavailable:
    return Unavailable("The engine has been closed.")


def _failure_of(work: Callable[[], None]) -> Exception | None:
    """What went wrong, outside of the block that knows its traceback: that would keep the tensors of its frames."""
    try:
        work()
    except Exception as error:
        return error
    return None
