"""Where the bytes of artifacts lie: content-addressed, so that a repeated attempt writes the same object again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from app.artifacts.disk import DiskArtifacts
from app.artifacts.objects import StoredObject
from app.settings import Settings


class ArtifactStore(Protocol):
    """Objects under the sha256 of their content. Written before the row that names them, never changed.

    Every method blocks, for a bounded time, and may be called from any thread. Whatever is wrong with the disk or the
    network is Unavailable: the caller may come again.
    """

    def put(self, content: bytes | memoryview) -> str:
        """Stores the content durably; returns its sha256 in hex. Safe to repeat. Raises Unavailable.

        Afterwards the object is younger than half the orphan age, even if it was there before: within that time its
        row must be written, and no sweep takes it until then.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The content, checked against its name. Raises NotFound; Unavailable for damaged bytes too."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """The content as a file at its beginning, checked likewise, which the caller closes: none of it is in memory.

        Raises as `get` does.
        """
        ...

    def listing(self) -> Iterator[list[StoredObject]]:
        """All objects in pages, some of which may be empty. Raises Unavailable."""
        ...

    def delete(self, sha256: str, older_than_s: float) -> bool:
        """Deletes an object whose age is still above `older_than_s`: a put that came meanwhile wins.

        Returns whether it was this call that deleted it. Raises Unavailable.
        """
        ...

    def check(self) -> None:
        """Puts a probe, reads it and deletes it. Raises Unavailable with a sentence that says what to do."""
        ...


def open_artifacts(settings: Settings) -> ArtifactStore:
    """The artifact store that the settings choose: a bucket where one is named, else the data folder."""
    if not settings.s3_bucket:
        return DiskArtifacts(settings.artifacts_dir, settings.orphan_age_s)
    # boto3 costs a quarter of a second and 20 MB; the embedded form needs none of it.
    from app.artifacts.s3 import open_s3  # noqa: PLC0415 - see above

    return open_s3(settings)
