"""Mutant: nobody looks for expired leases, dead workers, lost doorbells or overdue runs."""

import asyncio

from app.runs.reaper import Reaper


async def _rest(self: Reaper) -> None:
    await asyncio.Event().wait()


Reaper.watch = _rest  # type: ignore[method-assign]
