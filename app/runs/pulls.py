"""Pulling models: from Hugging Face's hub or any server that may be asked, each once at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.installed import Installed
from app.domain.model_name import parse_name
from app.domain.request import Caller
from app.errors import InvalidParam, NotFound
from app.outbound.reach import reach_of
from app.runs.models import Model, Models
from app.runs.presets import Presets, Recipe
from app.runs.pulling import Puller, Wanted, is_plain, read_wanted
from app.runs.transfers import Told, Transfer, Transfers, in_thread
from app.settings import Settings


class Pulls:
    """What is asked for under a name can be asked for pictures by that name, once it is here.

    A pull goes on when whoever asked for it has left; what a server that ends has of it is kept, and the next pull of
    the same goes on from there.
    """

    def __init__(
        self, settings: Settings, models: Models, presets: Presets, installed: Installed, transfers: Transfers
    ) -> None:
        self._settings = settings
        self._models = models
        self._presets = presets
        self._installed = installed
        self._transfers = transfers
        self._names: dict[str, set[tuple[Caller, str]]] = {}

    async def pull(self, caller: Caller, name: str, *, insecure: bool = False) -> AsyncGenerator[Told, None]:
        """How far it is, to its end. Raises InvalidParam for a name at once; later what `Puller.pull` raises."""
        if is_plain(name):
            async for told in self._installed_one(caller, name):
                yield told
            return
        wanted = read_wanted(name, reach_of(self._settings), insecure=insecure)
        key = repr(wanted)
        self._names.setdefault(key, set()).add((caller, name))
        transfer = self._transfers.join(key, "pulling manifest", partial(self._fetch, wanted, key))
        async for told in transfer.follow():
            yield told

    async def _installed_one(self, caller: Caller, name: str) -> AsyncGenerator[Told, None]:
        """There is no library of Ollama's here; programs pull at their start what they are going to use."""
        parse_name(name)
        yield Told("pulling manifest")
        if await self._models.preset(caller, name) is None and self._models.installed(name) is None:
            raise NotFound(
                f"pull model manifest: file does not exist: there is no '{name}' here; name a repository "
                "(hf.co/owner/name) or an address (https://…)"
            )
        yield Told("success")

    async def _fetch(self, wanted: Wanted, key: str, transfer: Transfer) -> None:
        try:
            puller = await in_thread(partial(Puller, self._settings, self._installed))
            made = await in_thread(partial(puller.pull, wanted, transfer.tell))
            named: set[tuple[Caller, str]] = set()
            while made is not None and (rest := self._names[key] - named):  # who comes meanwhile shares it, too
                for caller, name in rest:
                    await self._name(caller, name, made)
                named |= rest
            transfer.tell("success")
        finally:
            self._names.pop(key, None)

    async def _name(self, caller: Caller, asked: str, made: Checkpoint) -> None:
        """Makes the name that was asked for one of the app's, unless it is the checkpoint's own or can be no name.

        A preset of that name that somebody has given parameters stays as it is.
        """
        try:
            named = parse_name(asked)
        except InvalidParam:
            return
        before = await self._models.preset(caller, asked)
        is_own = before is not None and (before.parameters or before.system or before.template or before.license)
        if named.plain.lower() != made.name.lower() and not is_own:
            await self._presets.create(caller, asked, Model(made.name, made), Recipe())
