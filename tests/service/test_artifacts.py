"""Artifact stores: what was put is got again, and whatever goes wrong between is said in one sentence."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artifacts.objects import name_of
from app.artifacts.s3 import Patience, S3Artifacts, open_s3
from app.artifacts.store import ArtifactStore, open_artifacts
from app.errors import NotFound, SettingsInvalid, Unavailable
from app.settings import Settings, load_settings
from tests.flaky import Proxy, Trouble, proxy_before
from tests.s3 import BUCKET, MotoServer, S3Server

PICTURE = bytes(range(256)) * 400
SHA256 = hashlib.sha256(PICTURE).hexdigest()
HASTE = Patience(connect_s=1.0, read_s=1.0, tries=2)


@pytest.fixture(scope="module")
def moto_server() -> Iterator[MotoServer]:
    server = MotoServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def moto(moto_server: MotoServer) -> MotoServer:
    """An S3 server whose bucket is empty."""
    client = moto_server.client()
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    return moto_server


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[Proxy]:
    with proxy_before(moto.port) as proxy:
        yield proxy


def s3_settings(url: str, **more: object) -> Settings:
    keys = {"s3_access_key_id": "an-id", "s3_secret_access_key": "a-very-secret-key"}
    settings = load_settings(s3_endpoint_url=url, s3_bucket=BUCKET, **keys)
    return settings.model_copy(update=more)


def bucket(url: str, **more: object) -> S3Artifacts:
    return open_s3(s3_settings(url, **more), HASTE)


@pytest.fixture(params=["disk", "s3"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "disk":
        return open_artifacts(load_settings(data_dir=tmp_path))
    return open_artifacts(s3_settings(request.getfixturevalue("moto").url))


def test_what_was_put_is_got(artifacts: ArtifactStore) -> None:
    assert artifacts.put(PICTURE) == SHA256
    assert artifacts.put(PICTURE) == SHA256
    assert artifacts.get(SHA256) == PICTURE
    with artifacts.open(SHA256) as file:
        assert file.read() == PICTURE
    assert [each.sha256 for page in artifacts.listing() for each in page] == [SHA256]
    artifacts.check()


def test_what_was_never_put_is_not_found(artifacts: ArtifactStore) -> None:
    for read in (artifacts.get, artifacts.open):
        with pytest.raises(NotFound):
            read(SHA256)
    assert not artifacts.delete(SHA256, 0)


def test_only_an_old_object_is_deleted(artifacts: ArtifactStore) -> None:
    artifacts.put(PICTURE)
    assert not artifacts.delete(SHA256, older_than_s=60)
    time.sleep(2.1)
    assert artifacts.delete(SHA256, older_than_s=1)
    with pytest.raises(NotFound):
        artifacts.get(SHA256)


def test_a_check_leaves_nothing_behind(moto: MotoServer) -> None:
    bucket(moto.url).check()
    assert "Contents" not in moto.client().list_objects_v2(Bucket=BUCKET)


def test_an_object_lies_under_its_sha256(moto: MotoServer) -> None:
    bucket(moto.url).put(PICTURE)
    (found,) = moto.client().list_objects_v2(Bucket=BUCKET)["Contents"]
    assert found["Key"] == f"artifacts/{SHA256[:2]}/{SHA256[2:4]}/{SHA256}"


def test_a_picture_that_is_there_is_not_sent_again(proxy: Proxy) -> None:
    store = bucket(proxy.url)
    store.put(PICTURE)
    store.put(PICTURE)
    assert proxy.seen.count("PUT") == 1


def test_half_a_picture_is_sent_again(moto: MotoServer) -> None:
    """What a server leaves that was killed in the middle of a put and doesn't write all or nothing."""
    moto.client().put_object(Bucket=BUCKET, Key=f"artifacts/{name_of(SHA256)}", Body=PICTURE[:1000])
    bucket(moto.url).put(PICTURE)
    assert bucket(moto.url).get(SHA256) == PICTURE


def test_half_a_picture_on_disk_is_written_again(tmp_path: Path) -> None:
    store = open_artifacts(load_settings(data_dir=tmp_path))
    store.put(PICTURE)
    (tmp_path / "artifacts" / name_of(SHA256)).write_bytes(PICTURE[:1000])
    store.put(PICTURE)
    assert store.get(SHA256) == PICTURE


def test_damaged_bytes_are_noticed_and_logged(moto: MotoServer, caplog: pytest.LogCaptureFixture) -> None:
    moto.client().put_object(Bucket=BUCKET, Key=f"artifacts/{name_of(SHA256)}", Body=b"something else")
    with pytest.raises(Unavailable, match="damaged bytes"):
        bucket(moto.url).get(SHA256)
    assert [record.levelno for record in caplog.records if record.name.startswith("app")] == [logging.ERROR]


def test_damaged_bytes_on_disk_are_noticed(tmp_path: Path) -> None:
    store = open_artifacts(load_settings(data_dir=tmp_path))
    store.put(PICTURE)
    (tmp_path / "artifacts" / name_of(SHA256)).write_bytes(b"something else")
    with pytest.raises(Unavailable, match="damaged"):
        store.get(SHA256)


def test_a_dead_server_is_unavailable() -> None:
    server = MotoServer()
    with pytest.raises(Unavailable, match=rf"The bucket {BUCKET} at {server.url} can't be reached"):
        bucket(server.url).put(PICTURE)


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
@pytest.mark.parametrize("trouble", [Trouble.ERROR, Trouble.SLOW, Trouble.LOST])
def test_one_trouble_in_a_put_is_mended(proxy: Proxy, method: str, trouble: Trouble) -> None:
    proxy.troubles[method] = [trouble]
    assert bucket(proxy.url).put(PICTURE) == SHA256
    assert bucket(proxy.url).get(SHA256) == PICTURE


def test_a_put_that_is_cut_in_the_middle_leaves_no_half(proxy: Proxy, moto: MotoServer) -> None:
    proxy.always["PUT"] = Trouble.CUT
    with pytest.raises(Unavailable):
        bucket(proxy.url).put(PICTURE)
    assert "Contents" not in moto.client().list_objects_v2(Bucket=BUCKET)
    proxy.always.clear()
    proxy.troubles["PUT"] = [Trouble.CUT]
    bucket(proxy.url).put(PICTURE)
    assert bucket(moto.url).get(SHA256) == PICTURE


def test_a_put_whose_bytes_changed_on_the_way_is_refused(proxy: Proxy) -> None:
    proxy.always["PUT"] = Trouble.TORN
    with pytest.raises(Unavailable):
        bucket(proxy.url).put(PICTURE)


@pytest.mark.parametrize("trouble", [Trouble.ERROR, Trouble.SLOW, Trouble.HALF, Trouble.LOST])
def test_one_trouble_in_a_get_is_mended_and_a_lasting_one_ends(proxy: Proxy, trouble: Trouble) -> None:
    store = bucket(proxy.url)
    store.put(PICTURE)
    proxy.troubles["GET"] = [trouble]
    assert store.get(SHA256) == PICTURE
    proxy.always["GET"] = trouble
    with pytest.raises(Unavailable):
        store.get(SHA256)


def test_a_server_that_keeps_failing_is_unavailable(proxy: Proxy) -> None:
    proxy.always["PUT"] = Trouble.ERROR
    with pytest.raises(Unavailable, match=r"answered with an error \(InternalError\)"):
        bucket(proxy.url).put(PICTURE)


def test_refused_keys_are_said_without_the_secret() -> None:
    server = MotoServer(strict=True)
    server.start()
    try:
        with pytest.raises(Unavailable, match=r"refused the request .* check S3_ACCESS_KEY_ID") as refused:
            bucket(server.url).check()
        assert "a-very-secret-key" not in refused.value.message
    finally:
        server.stop()


def test_a_missing_bucket_is_said(moto: MotoServer) -> None:
    for act in (lambda store: store.check(), lambda store: store.put(PICTURE), lambda store: store.get(SHA256)):
        with pytest.raises(Unavailable, match=r"The bucket other at .* does not exist"):
            act(bucket(moto.url, s3_bucket="other"))


def test_an_endpoint_that_is_none_stops_the_program() -> None:
    with pytest.raises(SettingsInvalid, match="S3_ENDPOINT_URL"):
        bucket("not a url")


def test_a_password_in_the_endpoint_is_never_said(moto: MotoServer) -> None:
    with pytest.raises(Unavailable) as told:
        bucket(f"http://me:hidden@127.0.0.1:{moto.port}", s3_bucket="other").put(PICTURE)
    assert "hidden" not in told.value.message


def test_a_killed_s3_server_has_its_objects_still(tmp_path: Path) -> None:
    server = S3Server(tmp_path)
    server.start()
    try:
        store = bucket(server.url, s3_access_key_id=server.key, s3_secret_access_key=server.key)
        store.check()
        store.put(PICTURE)
        server.kill()
        with pytest.raises(Unavailable):
            store.get(SHA256)
        server.start()
        assert store.get(SHA256) == PICTURE
    finally:
        server.stop()
