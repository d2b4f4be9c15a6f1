"""Copies what lies in one artifact store into another, as when a folder gives way to a bucket."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from app.artifacts.store import ArtifactStore
from app.errors import NotFound, Unavailable

_AT_ONCE = 8


def copy_objects(source: ArtifactStore, target: ArtifactStore, on_objects: Callable[[int, int], None]) -> list[str]:
    """Copies every object; safe to repeat, for one that is there already is not sent again.

    `on_objects` is told how many are done, and of how many. Returns the sha256 of those that the source can't give
    (damaged, or deleted meanwhile): they are left out. Raises Unavailable when the target can't be written.
    """
    sha256s = [stored.sha256 for stored in chain.from_iterable(source.listing())]
    left_out: list[str] = []
    on_objects(0, len(sha256s))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        copies = [threads.submit(_copy, source, target, sha256) for sha256 in sha256s]
        try:
            for done, (sha256, copied) in enumerate(zip(sha256s, copies, strict=True), 1):
                if not copied.result():
                    left_out.append(sha256)
                on_objects(done, len(sha256s))
        finally:  # after a failure nobody waits for the others
            threads.shutdown(cancel_futures=True)
    return left_out


def _copy(source: ArtifactStore, target: ArtifactStore, sha256: str) -> bool:
    try:
        content = source.get(sha256)
    except (NotFound, Unavailable):
        return False
    target.put(content)
    return True
