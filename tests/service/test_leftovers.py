"""What nobody will come back for is deleted, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

from app.checkpoints.leftovers import Leftovers


def made(path: Path, days_ago: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    for each in (path, path.parent):
        os.utime(each, (time.time() - days_ago * 86400,) * 2)
    return path


def test_blobs_go_after_a_day_and_pulls_after_a_week(tmp_path: Path) -> None:
    old = [
        made(tmp_path / ".blobs/sha256-1", 1.1),
        made(tmp_path / ".blobs/.1.part", 1.1),
        made(tmp_path / ".creating-1/a.safetensors", 1.1),
        made(tmp_path / ".deleted-1/unet/a.safetensors", 1.1),
        made(tmp_path / ".pulling/1/a.safetensors.part", 7.1),
    ]
    os.utime(tmp_path / ".deleted-1", (time.time() - 1.1 * 86400,) * 2)
    kept = [
        made(tmp_path / ".blobs/sha256-2", 0.9),
        made(tmp_path / ".creating-2/a.safetensors", 0.9),
        made(tmp_path / ".pulling/2/a.safetensors.part", 6.9),
        made(tmp_path / "a.safetensors", 100),
        made(tmp_path / ".a.safetensors.part", 100),
    ]
    assert Leftovers(tmp_path).tidy() == len(old)
    assert [path.exists() for path in old + kept] == [False] * len(old) + [True] * len(kept)
    assert Leftovers(tmp_path / "nowhere").tidy() == 0
