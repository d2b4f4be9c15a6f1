"""Prompts of requests that come while a UNet call is made are encoded during the call, and not after it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from workers.diffusion.checkpoint.pipeline import Pipeline
from workers.diffusion.loop.ticket import Ticket
from workers.diffusion.request import Weights

_LAST_PROMPT_S = 30.0

Find = Callable[[Weights], Pipeline | None]


class Foresight:
    """A thread beside the engine's. It works while the engine is `away` only: then the engine has the UNet, and nobody
    the tokenizers and text encoders. What it does is remembered by the pipeline; what goes wrong in it goes wrong once
    more on the engine's thread, which tells it.
    """

    def __init__(self, find: Find) -> None:
        """`find` gives a pipeline that is in memory, without a sign that it is used."""
        self._find = find
        self._come: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._turn = threading.Condition()  # whose it is may change
        self._is_away = self._is_encoding = self._is_closed = False
        self._thread: threading.Thread | None = None

    def expect(self, ticket: Ticket) -> None:
        """Called by any thread. LoRAs change weights before a prompt is encoded: those who want them wait. So do those
        whose bits are to repeat: on a CPU they depend on how many threads calculate.
        """
        if not (ticket.request.loras or ticket.request.exclusive):
            self._come.put(ticket)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The engine's thread is in a UNet call. Afterwards it waits for the request that is being encoded, and for no
        other.
        """
        if self._thread is None:
            self._thread = _started(self._run)
        with self._turn:
            self._is_away = True
            self._turn.notify_all()
        try:
            yield
        finally:
            with self._turn:
                self._is_away = False
                self._turn.wait_for(lambda: not self._is_encoding)

    def close(self) -> None:
        """To be called after the engine's thread has ended."""
        with self._turn:
            self._is_closed = True
            self._turn.notify_all()
        self._come.put(None)
        if self._thread is not None:
            self._thread.join(_LAST_PROMPT_S)

    def _run(self) -> None:
        while (ticket := self._come.get()) is not None:
            with self._turn:
                self._turn.wait_for(lambda: self._is_away or self._is_closed)
                self._is_encoding = True
            try:
                with torch.inference_mode(), suppress(Exception):
                    self._encode(ticket)
            finally:
                with self._turn:
                    self._is_encoding = False
                    self._turn.notify_all()
            del ticket

    def _encode(self, ticket: Ticket) -> None:
        request = ticket.request
        pipeline = None if ticket.is_begun or self._is_closed else self._find(request.weights)
        if pipeline is None:
            return
        pipeline.encode(request.prompt, request)
        if request.guidance_scale > 1:
            pipeline.encode(request.negative_prompt, request, negative=True)


def _started(run: Callable[[], None]) -> threading.Thread:
    """On a CPU one core is enough for it: with more, two teams of threads would wait for each other.

    To torch the number is that of the thread which sets it, and of all that begin to calculate later, so this one has
    to begin while it is one.
    """
    before, is_set = torch.get_num_threads(), threading.Event()

    def alone() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # which is a beginning
        is_set.set()
        run()

    thread = threading.Thread(target=alone, name="foresight", daemon=True)
    thread.start()
    is_set.wait()
    torch.set_num_threads(before)
    return thread
