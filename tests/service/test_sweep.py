"""The orphan sweep: what a row names stays, what is young stays, and a put wins against it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import ids
from app.artifacts.disk import DiskArtifacts
from app.artifacts.objects import name_of
from app.artifacts.store import ArtifactStore, open_artifacts
from app.domain.artifact import Artifact, Upload
from app.errors import NotFound
from app.runs.sweep import OrphanSweep
from app.settings import Settings, load_settings
from app.store.accounts import PublishedWorkflow, publish
from app.store.files import insert_artifacts, named_sha256s
from app.store.migrate import upgrade
from app.store.store import Store
from app.store.uploads import insert_upload
from tests.s3 import MotoServer

NAMED, ORPHAN, YOUNG = b"named by a row", b"an orphan", b"a young orphan"
OLD_S = 4.0


class House:
    """A database, an artifact store and the sweep, with days of a few seconds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.artifacts: ArtifactStore = open_artifacts(settings)
        self.sweep = OrphanSweep(self.store, self.artifacts, settings.orphan_age_s)

    async def name(self, content: bytes) -> None:
        new = Artifact(ids.new_id(), "run", "step", sha256(content), len(content), "image/png", ".png", "a.png")
        await self.store.commit(lambda tx: insert_artifacts(tx, [new], time.time()))

    async def name_upload(self, content: bytes) -> None:
        published = PublishedWorkflow(ids.new_id(), ids.new_id(), "1", "a document")
        of_content = (sha256(content), len(content), "text/plain", ".txt", "a.txt", None, 0.0)
        new = Upload(ids.new_id(), published.app_id, "u", *of_content)
        await self.store.commit(lambda tx: (publish(tx, "a", published, 0.0), insert_upload(tx, new)))

    async def grow_old(self) -> None:
        """Lets all objects become older than `OLD_S`: files are told so, a bucket's objects have to be waited for."""
        files = [path for path in self.settings.artifacts_dir.rglob("*") if path.is_file()]
        for path in files:
            os.utime(path, (time.time() - OLD_S - 1,) * 2)
        if not files:
            await asyncio.sleep(OLD_S + 1.2)  # the times of objects are whole seconds

    def has(self, content: bytes) -> bool:
        try:
            return self.artifacts.get(sha256(content)) == content
        except NotFound:
            return False


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def moto() -> Iterator[MotoServer]:
    server = MotoServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["disk", "s3"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    settings = load_settings(data_dir=tmp_path)
    if request.param == "s3":
        moto: MotoServer = request.getfixturevalue("moto")
        keys = {"s3_access_key_id": moto.key, "s3_secret_access_key": moto.key}
        settings = load_settings(data_dir=tmp_path, s3_endpoint_url=moto.url, s3_bucket="atelier", **keys)
    settings = settings.model_copy(update={"orphan_age_s": OLD_S})
    upgrade(settings)
    house = House(settings)
    yield house
    house.store.close()


async def test_orphans_go_and_what_is_named_or_young_stays(house: House) -> None:
    for content in (NAMED, ORPHAN):
        house.artifacts.put(content)
    await house.name(NAMED)
    await house.grow_old()
    house.artifacts.put(YOUNG)
    assert await house.sweep.sweep() == 1
    assert [house.has(content) for content in (NAMED, ORPHAN, YOUNG)] == [True, False, True]
    assert await house.sweep.sweep() == 0


async def test_what_a_caller_gave_stays(house: House) -> None:
    """Also where no run has ever made anything."""
    for content in (NAMED, ORPHAN):
        house.artifacts.put(memoryview(content))
    await house.name_upload(NAMED)
    await house.grow_old()
    assert await house.sweep.sweep() == 1
    assert [house.has(content) for content in (NAMED, ORPHAN)] == [True, False]


async def test_a_put_makes_an_old_object_young_again(house: House) -> None:
    await house.name(NAMED)
    house.artifacts.put(ORPHAN)
    await house.grow_old()
    house.artifacts.put(ORPHAN)
    assert not house.artifacts.delete(sha256(ORPHAN), OLD_S)
    assert house.has(ORPHAN)


async def test_a_put_between_the_listing_and_the_deletion_wins(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.name(NAMED)
    house.artifacts.put(ORPHAN)
    await house.grow_old()
    listed = list(house.artifacts.listing())
    house.artifacts.put(ORPHAN)
    monkeypatch.setattr(house.artifacts, "listing", lambda: iter(listed))
    assert await house.sweep.sweep() == 0
    assert house.has(ORPHAN)


async def test_nothing_goes_while_the_database_names_nothing(house: House) -> None:
    """A new database before a full bucket is a mistake in the settings."""
    house.artifacts.put(ORPHAN)
    await house.grow_old()
    assert await house.sweep.sweep() == 0
    assert house.has(ORPHAN)


async def test_many_contents_are_asked_for_at_once(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    upgrade(settings)
    house = House(settings)
    contents = [b"%d" % n for n in range(450)]
    for content in contents[::2]:
        await house.name(content)
    asked = [sha256(content) for content in contents]
    assert await house.store.read(lambda tx: named_sha256s(tx, asked)) == set(asked[::2])
    house.store.close()


async def test_half_written_files_of_killed_puts_go_once_they_are_old(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path).model_copy(update={"orphan_age_s": OLD_S})
    upgrade(settings)
    house = House(settings)
    await house.name(NAMED)
    half = settings.artifacts_dir / name_of(sha256(ORPHAN))
    half = half.with_name(f".{half.name}.123.456")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    await house.sweep.sweep()
    assert half.exists()
    await house.grow_old()
    await house.sweep.sweep()
    assert not half.exists()
    house.store.close()


def test_puts_and_sweeps_of_one_file_at_once_never_lose_a_put(tmp_path: Path) -> None:
    """Every file counts as old here once it is 50 ms old, and a put's file is no older than the put's own start.

    So a file that is missing less than 40 ms after that start was taken from a put, however slow disk and threads are
    (the file's time may lag by the kernel's tick of up to 10 ms).
    """
    store = DiskArtifacts(tmp_path, 0.05)
    store.put(ORPHAN)
    end = time.monotonic() + 2

    def sweep() -> int:
        return sum(store.delete(sha256(ORPHAN), 0.05) for _ in iter(lambda: time.monotonic() < end, False))

    def put() -> int:
        lost = 0
        while time.monotonic() < end:
            began_at = time.monotonic()
            store.put(ORPHAN)
            found = (tmp_path / name_of(sha256(ORPHAN))).exists()
            lost += not found and time.monotonic() - began_at < 0.04
            time.sleep(0.06)
        return lost

    with ThreadPoolExecutor(4) as threads:
        sweeps = [threads.submit(sweep) for _ in range(2)]
        puts = [threads.submit(put) for _ in range(2)]
        assert sum(each.result() for each in puts) == 0
        assert sum(each.result() for each in sweeps) > 3, "nothing was ever deleted"
