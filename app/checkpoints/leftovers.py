"""What nobody will come back for, in the hidden folders beside the checkpoints."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.checkpoints.blobs import FOLDER as BLOBS

logger = logging.getLogger(__name__)

PULLING = ".pulling"
"""Where what is pulled lies until it is whole."""
_BROKEN = (".creating-*", ".deleted-*")
_DAY_S = 86400.0
_FIRST_S, _EVERY_S = 90.0, 3600.0


class Leftovers:
    """Deletes posted blobs and what a killed server has left after a day, pulls that nobody went on with after a week.

    Any number of processes may do it at once.
    """

    def __init__(self, checkpoints_dir: Path) -> None:
        self._folder = checkpoints_dir

    async def watch(self) -> None:
        """Tidies up once an hour, until cancelled."""
        await asyncio.sleep(_FIRST_S)
        while True:
            try:
                await asyncio.to_thread(self.tidy)
            except OSError as error:
                logger.warning("upkeep failed", extra={"action": "tidy_leftovers", "error": str(error)})
            await asyncio.sleep(_EVERY_S)

    def tidy(self) -> int:
        """Returns how many files and folders it deleted. Raises OSError."""
        old = [*self._old(_DAY_S, f"{BLOBS}/*", *_BROKEN), *self._old(7 * _DAY_S, f"{PULLING}/*")]
        for path in old:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if old:
            logger.info(f"{len(old)} leftovers deleted", extra={"action": "leftovers_deleted"})
        return len(old)

    def _old(self, age_s: float, *patterns: str) -> Iterator[Path]:
        before = time.time() - age_s
        for path in (path for pattern in patterns for path in self._folder.glob(pattern)):
            with suppress(FileNotFoundError):
                files = [path, *path.rglob("*")] if path.is_dir() else [path]
                if max(each.lstat().st_mtime for each in files) < before:
                    yield path
