"""One server a data folder: two would both call the other's steps lost."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.errors import SettingsInvalid, Unavailable


def lock_folder(data_dir: Path) -> int:
    """Takes the data folder for this process; returns the lock's descriptor, which holds it until it is closed.

    Raises SettingsInvalid when another server has it, Unavailable when the folder can't be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"The data folder {data_dir} can't be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsInvalid(
            f"Another Atelier server uses {data_dir}. Stop it, or set ATELIER_DATA_DIR to another folder."
        ) from None
    return descriptor
