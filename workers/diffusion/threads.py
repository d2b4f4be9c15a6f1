"""How many CPU threads the engine should have: as many as the cores that this process may really use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """The cores of this process's affinity, or fewer where its control group is given less time than that.

    A container that may use 2 of 64 cores sees all 64: that many threads would wait for each other most of the time.
    `root` is where `proc` and `sys` lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(share) for share in _shares(root))]))


def thread_count(asked: int) -> int | None:
    """`asked`, unless it is 0; then None where OMP_NUM_THREADS is set, which torch has read itself; else the cores."""
    if asked:
        return asked
    return None if os.environ.get("OMP_NUM_THREADS") else usable_cores()


def _shares(root: Path) -> Iterator[float]:
    """How many cores' time each control group of this process has, version 2 and 1, where it is limited."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _limits(mounted, path, _version_2)
        elif "cpu" in controllers.split(","):
            yield from _limits(mounted / "cpu", path, _version_1)


def _limits(mounted: Path, path: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """Of the group at `path` and of all above it. In a container its own group may be mounted as the topmost."""
    inside = mounted / path.lstrip("/")
    for group in (inside, *inside.parents):
        if group.is_relative_to(mounted):
            with suppress(OSError, ValueError):
                share = read(group)
                if share is not None:
                    yield share


def _version_2(group: Path) -> float | None:
    quota, period = (group / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _version_1(group: Path) -> float | None:
    quota = int((group / "cpu.cfs_quota_us").read_text())
    return None if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
