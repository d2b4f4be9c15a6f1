"""Mutant: the doorbell is rung before the commit, and not after it."""

import asyncio
from typing import Any

from app.runs.service import Announcer, RunService

_ring, _submit = Announcer.ring, RunService.submit


async def _early(self: RunService, request: Any) -> Any:
    _ring(self._announcer, ("gpu",))
    await asyncio.sleep(0.05)
    return await _submit(self, request)


Announcer.ring = lambda self, work_classes: None  # type: ignore[method-assign]
RunService.submit = _early  # type: ignore[method-assign]
