"""Pushing models: to Hugging Face's hub or any server that may be asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from app.checkpoints.checkpoint import Checkpoint
from app.domain.model_name import parse_name
from app.domain.request import Caller
from app.outbound.reach import reach_of
from app.outbound.urls import check_url
from app.runs.models import ModelNotFound, Models
from app.runs.pushing import Destination, Pusher, read_destination
from app.runs.transfers import Told, Transfer, Transfers, in_thread
from app.settings import Settings


class Pushes:
    """A model's name says where it goes. What is sent is its checkpoint; a preset's parameters stay here.

    A push goes on when whoever asked for it has left.
    """

    def __init__(self, settings: Settings, models: Models, transfers: Transfers) -> None:
        self._settings = settings
        self._models = models
        self._transfers = transfers

    async def push(self, caller: Caller, name: str, to: str, *, insecure: bool) -> AsyncGenerator[Told, None]:
        """How far it is, to its end. `to`: a URL, where the name does not say where to.

        Raises InvalidParam and ModelNotFound at once; later what `Pusher.push` raises.
        """
        checkpoint = await self._checkpoint(caller, name)
        reach = reach_of(self._settings)
        if to:
            check_url(to, "to", reach)
            destination = Destination(url=to)
        else:
            destination = read_destination(parse_name(name), reach, insecure=insecure)
        key = repr(("push", checkpoint.path, destination))
        transfer = self._transfers.join(key, "retrieving manifest", partial(self._send, checkpoint, destination))
        async for told in transfer.follow():
            yield told

    async def _checkpoint(self, caller: Caller, name: str) -> Checkpoint:
        preset = await self._models.preset(caller, name)
        found = self._models.installed(preset.checkpoint if preset else name)
        if found is None or found.problem:
            raise ModelNotFound(name)
        return found

    async def _send(self, checkpoint: Checkpoint, to: Destination, transfer: Transfer) -> None:
        await in_thread(partial(Pusher(self._settings).push, checkpoint, to, transfer.tell))
        transfer.tell("success")
