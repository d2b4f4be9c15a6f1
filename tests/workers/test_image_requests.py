"""A step's inputs to what the engine is asked for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from app.artifacts.disk import DiskArtifacts
from app.artifacts.store import ArtifactStore
from app.checkpoints.catalogue import SHIPPED_FOLDER, Catalogue
from app.errors import InvalidParam, NodeFailed
from app.graph.nodes.kind import WorkerCall
from app.runs.settle import SettleImages
from tests.adapters import dress
from tests.media import picture
from tests.workers.headers import sd, write
from workers.diffusion.request import Control, Enlargement, Hires, ImageRequest, Lora
from workers.nodes.image_request import ImageRequests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dress(tmp_path)
    return tmp_path


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return DiskArtifacts(tmp_path / "artifacts", 60)


def file_of(artifacts: ArtifactStore, content: bytes) -> dict[str, Any]:
    return {"__artifact__": "1", "sha256": artifacts.put(content), "mime_type": "image/png", "extension": ".png"}


def inputs_of(folder: Path, **asked: Any) -> dict[str, Any]:
    settle = SettleImages(Catalogue([folder, SHIPPED_FOLDER]), {})
    return dict(settle(WorkerCall("gpu", asked)).inputs)


def request_of(folder: Path, artifacts: ArtifactStore, **asked: Any) -> ImageRequest:
    inputs = inputs_of(folder, **{"prompt": "a cat", "n": 1, **asked})
    return ImageRequests(Catalogue([folder, SHIPPED_FOLDER]), artifacts).painting(inputs)


def test_a_plain_request_says_what_was_settled(folder: Path, artifacts: ArtifactStore) -> None:
    request = request_of(folder, artifacts, seed=7, steps=2)
    assert (request.weights.name, request.weights.family, len(request.weights.stamp)) == (
        "atelier-shapes",
        "shapes",
        16,
    )
    assert (request.width, request.height, request.steps, request.seed) == (64, 64, 2, 7)
    plain = ImageRequest(request.weights)
    assert (request.hires, request.enlarge, request.strength, request.format) == (
        plain.hires,
        plain.enlarge,
        plain.strength,
        plain.format,
    )


def test_names_become_paths(folder: Path, artifacts: ArtifactStore) -> None:
    request = request_of(
        folder,
        artifacts,
        prompt="a cat <lora:ink:0.5>",
        negative_prompt="bad-hands",
        vae="soft",
        hires_scale=2,
        hires_upscaler="x4",
        upscale=3,
        control_net="canny",
        control_image=[file_of(artifacts, b"edges")],
    )
    assert request.prompt == "a cat "
    assert request.loras == (Lora("ink", f"{folder}/loras/ink.safetensors", 0.5),)
    assert request.embeddings == (("bad-hands", f"{folder}/embeddings/bad-hands.safetensors"),)
    assert request.weights.vae_path == f"{folder}/vae/soft.safetensors"
    assert request.hires == Hires(2, 0.5, 30, f"{folder}/upscalers/x4.safetensors")
    assert request.enlarge == Enlargement(3, "lanczos")
    assert request.controls == (Control("canny", f"{folder}/controlnet/canny.safetensors", b"edges", 1.0, 0.0, 1.0),)


def test_previews_are_made_by_a_tiny_autoencoder_for_the_family(folder: Path, artifacts: ArtifactStore) -> None:
    for name in ("taesd", "taesdxl"):
        write(folder / f"vae/{name}.safetensors", {"decoder.layers.0.weight": [64, 4, 3, 3]})
    write(folder / "photo.safetensors", sd())
    assert request_of(folder, artifacts, previews=True).preview_path == ""
    asked = {"model_name": "photo", "previews": True}
    assert request_of(folder, artifacts, **asked).preview_path == f"{folder}/vae/taesd.safetensors"
    assert request_of(folder, artifacts, model_name="photo").preview_path == ""


@pytest.mark.parametrize(
    ("size", "asked", "painted"),
    [
        ((100, 70), {}, (96, 64)),
        ((500, 250), {}, (176, 88)),  # as far as a checkpoint for 64 pixels reaches
        ((500, 250), {"width": 128}, (128, 64)),
        ((500, 250), {"width": 256, "height": 256}, (256, 256)),
        ((20, 20), {}, (64, 64)),
    ],
)
def test_a_picture_is_changed_in_its_own_size_or_as_asked(
    folder: Path, artifacts: ArtifactStore, size: tuple[int, int], asked: dict[str, Any], painted: tuple[int, int]
) -> None:
    image = file_of(artifacts, picture(size=size))
    request = request_of(folder, artifacts, image=image, strength=0.5, **asked)
    assert (request.width, request.height) == painted
    assert request.image == picture(size=size)


def test_references_come_as_bytes_with_a_weight(folder: Path, artifacts: ArtifactStore) -> None:
    image, other = (file_of(artifacts, picture(size=size)) for size in ((64, 64), (96, 64)))
    request = request_of(folder, artifacts, image=image, strength=0.5, reference=[other, image])
    assert request.references == (picture(size=(96, 64)), picture(size=(64, 64)))
    assert request.reference_weight == 0.35
    assert request_of(folder, artifacts, image=image, strength=0.5).references == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"reference_weight": 0.5}, "there is no reference"),
        ({"reference": [{}], "mask": {}, "strength": 1.0}, "begins as noise"),
    ],
)
def test_references_that_could_change_nothing_are_refused(folder: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParam, match=said):
        inputs_of(folder, prompt="a cat", n=1, **asked)


def test_a_size_that_is_to_fit_is_painted_small_and_shown_as_asked(folder: Path, artifacts: ArtifactStore) -> None:
    request = request_of(folder, artifacts, width=1024, height=512, fit_size=True)
    assert ((request.width, request.height), request.shown_size) == ((88, 48), (1024, 512))
    request = request_of(folder, artifacts, width=128, height=64, fit_size=True)
    assert ((request.width, request.height), request.shown_size) == ((128, 64), None)


def test_a_photo_that_lies_on_its_side_is_upright(folder: Path, artifacts: ArtifactStore) -> None:
    out, exif = io.BytesIO(), Picture.Exif()
    exif[0x0112] = 6
    Picture.new("RGB", (128, 64)).save(out, "JPEG", exif=exif)
    request = request_of(folder, artifacts, image=file_of(artifacts, out.getvalue()))
    assert (request.width, request.height) == (64, 128)


def test_a_picture_that_would_be_too_large_is_refused(folder: Path, artifacts: ArtifactStore) -> None:
    requests = ImageRequests(Catalogue([folder, SHIPPED_FOLDER]), artifacts)
    inputs = inputs_of(folder, image=file_of(artifacts, picture(size=(2000, 100))), upscale=8)
    with pytest.raises(NodeFailed, match="16000 x 800 pixels; a side may have 8192"):
        requests.enlarging(inputs)
    assert requests.enlarging({**inputs, "upscale": 2}).enlarge == Enlargement(2, "lanczos")


def test_what_is_no_picture_fails_the_step(folder: Path, artifacts: ArtifactStore) -> None:
    with pytest.raises(NodeFailed, match="The image is no picture that can be read"):
        request_of(folder, artifacts, image=file_of(artifacts, b"no picture"))
