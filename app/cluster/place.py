"""Where another account can keep its data, when the folder meant for it lies behind a door that is closed to it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from app.cluster.daemon import as_account
from app.errors import Unavailable

_ELSEWHERE = Path("/var/tmp")  # noqa: S108 - the name is checked to be a folder of ours
_PREFIX = "atelier-postgres-"


def place_for(folder: Path, account: str | None) -> Path:
    """`folder`, if the account can go there; else a folder of ours in /var/tmp, always the same one for `folder`.

    Below /root, and in the temporary folders of tests, nobody but root may pass. Nothing is opened for that: the data
    lie elsewhere then, and are removed with the next call after `folder` is gone. Raises Unavailable.
    """
    if account is None or _can_go(account, folder):
        return folder
    _remove_forsaken()
    place = _ELSEWHERE / f"{_PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    try:
        place.mkdir(0o711)
        (place / "of").write_text(str(folder))
    except FileExistsError:
        if place.is_symlink() or place.stat().st_uid != 0:
            raise Unavailable(f"{place} belongs to somebody else. Remove it.") from None
    return place


def _can_go(account: str, folder: Path) -> bool:
    return subprocess.run([*as_account(account), "--", "test", "-x", str(folder)], capture_output=True).returncode == 0


def _remove_forsaken() -> None:
    """The places of folders that are no more."""
    for place in _ELSEWHERE.glob(f"{_PREFIX}*"):
        try:
            if place.stat().st_uid == 0 and not Path((place / "of").read_text()).exists():
                shutil.rmtree(place, ignore_errors=True)
        except OSError:  # another program removes it too
            continue
