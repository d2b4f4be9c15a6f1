"""What is pulled for callers goes through the guard at every hop, and a name of the hub's can't lead out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.checkpoints.catalogue import open_catalogue
from app.checkpoints.installed import Installed
from app.errors import CheckpointUnavailable, InvalidParam
from app.outbound.blocking import BlockingGuardedTransport
from app.outbound.reach import PUBLIC
from app.runs.pulling import Puller, Wanted, read_wanted
from app.settings import Settings, load_settings
from tests.hub import Hub, hub_running


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_running() as one:
        yield one


@pytest.fixture
def settings(hub: Hub, tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path, checkpoints_dir=tmp_path / "checkpoints", hub_url=hub.address)


def test_a_hub_that_leads_on_to_a_private_address_is_not_followed(hub: Hub, settings: Settings) -> None:
    hub.repositories["me/one"], hub.leads_to = {"one.safetensors": b"x"}, "127.0.0.2"
    puller = Puller(settings, Installed(settings, open_catalogue(settings)))
    with pytest.raises(InvalidParam, match=r"127\.0\.0\.2 leads to an address that is not public"):
        puller.pull(Wanted("me/one"), lambda *told: None)
    assert hub.ranges_asked == []


def test_a_repository_can_not_name_a_place_of_the_disk(hub: Hub, settings: Settings) -> None:
    paths = ("unet/../../../out.json", "../out.json", "/tmp/out.json", "unet/sub/out.json")
    hub.repositories["me/out"] = dict.fromkeys(("model_index.json", *paths), b"{}")
    puller = Puller(settings, Installed(settings, open_catalogue(settings)))
    with pytest.raises(CheckpointUnavailable, match="Copy the whole folder"):
        puller.pull(Wanted("me/out"), lambda *told: None)
    assert not list(settings.data_dir.rglob("out*"))


def test_no_address_of_this_machine_is_asked(hub: Hub) -> None:
    with httpx.Client(transport=BlockingGuardedTransport(PUBLIC)) as client, pytest.raises(InvalidParam):
        client.get(f"http://localhost:{hub.server_address[1]}/files/a")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("me/one", Wanted("me/one")),
        ("hf.co/me/one:latest", Wanted("me/one")),
        ("HuggingFace.co/me/one@v2:a.ckpt", Wanted("me/one@v2:a.ckpt")),
        ("https://huggingface.co/me/one/", Wanted("me/one")),
        ("me/one:sub/a.safetensors", Wanted("me/one:sub/a.safetensors")),
        ("me/one:Diffusers", Wanted("me/one", folder=True)),
        ("https://hf.co/me/one/resolve/main/a.ckpt", Wanted("https://hf.co/me/one/resolve/main/a.ckpt")),
        ("example.org/me/one:v2", Wanted("https://example.org/me/one-v2.safetensors")),
        ("example.org:8443/me/one.ckpt", Wanted("https://example.org:8443/me/one.ckpt")),
    ],
)
def test_names_mean_repositories_or_addresses(name: str, means: Wanted) -> None:
    assert read_wanted(name, PUBLIC) == means


@pytest.mark.parametrize("name", ["", "one", "a b/c", "ftp://a/b", "file:///etc/passwd", "../../etc/passwd", "a/b/c/d"])
def test_what_is_no_name_is_told(name: str) -> None:
    with pytest.raises(InvalidParam, match="invalid model name"):
        read_wanted(name, PUBLIC)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/a", "http://user:pw@example.org/a.ckpt", "https://[::1]/a", "10.0.0.1/a/b"]
)
def test_addresses_that_nobody_may_ask_are_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidParam):
        read_wanted(url, PUBLIC)
