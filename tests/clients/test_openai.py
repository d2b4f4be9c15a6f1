"""OpenAI's own clients, unchanged and as strict as they can be, against the checkpoint that ships."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.clients.packages import HAS_NPM, NPM, WITHOUT
from tests.servers import Atelier

SOON = {"seed": 7, "steps": 2}


@pytest.fixture(scope="module")
def client(atelier: Atelier) -> Iterator[OpenAI]:
    address = f"{atelier.url}/v1"
    with OpenAI(api_key=atelier.key, base_url=address, max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A picture, and a mask whose left half is transparent."""
    folder = tmp_path_factory.mktemp("pictures")
    cat, mask = folder / "cat.png", folder / "mask.png"
    Image.new("RGB", (64, 64), "navy").save(cat)
    hole = Image.new("RGBA", (64, 64), "black")
    hole.paste((0, 0, 0, 0), (0, 0, 32, 64))
    hole.save(mask)
    return cat, mask


def opened(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


def test_pictures_of_a_prompt(client: OpenAI) -> None:
    made = client.images.generate(prompt="a red circle", model="gpt-image-1", n=2, quality="low", extra_body=SOON)
    assert [opened(each.b64_json).size for each in made.data or ()] == [(64, 64)] * 2
    assert (made.quality, made.size, made.usage and made.usage.total_tokens) == ("low", "64x64", 0)
    again = client.images.generate(prompt="a red circle", extra_body=SOON, size="64x64")
    assert again.data is not None
    assert again.data[0].url is not None
    picture = Image.open(io.BytesIO(httpx.get(again.data[0].url).content)).convert("RGB")
    assert picture.size == (64, 64)
    assert again.data[0].seed == 7  # type: ignore[attr-defined] # one of ours beside OpenAI's
    small = client.images.generate(prompt="a red circle", extra_body={**SOON, "format": "webp"})
    assert small.output_format == "webp"


def test_a_stream(client: OpenAI) -> None:
    stream = client.images.generate(prompt="a ring", stream=True, partial_images=2, n=2, extra_body=SOON)
    events = list(stream)
    ends = [event for event in events if event.type == "image_generation.completed"]
    assert [opened(event.b64_json).size for event in events[-2:]] == [(64, 64)] * 2
    assert (len(ends), ends[0].usage.total_tokens, ends[0].size) == (2, 0, "64x64")


def test_edits_of_one_picture_of_two_and_of_a_part(client: OpenAI, files: tuple[Path, Path]) -> None:
    cat, mask = files
    asked: dict[str, Any] = {"prompt": "a yellow star", "model": "gpt-image-1", "extra_body": {**SOON, "steps": "4"}}
    one = client.images.edit(image=cat, **asked)
    two = client.images.edit(image=[cat.read_bytes(), mask.open("rb")], input_fidelity="high", **asked)
    part = client.images.edit(image=cat.open("rb"), mask=mask, **asked)
    (_, _, pictures) = [opened(each.data[0].b64_json) for each in (one, two, part) if each.data]
    right = (32, 0, 64, 64)
    assert pictures.crop(right).tobytes() == Image.open(cat).crop(right).tobytes()
    assert pictures.tobytes() != Image.open(cat).tobytes()


def test_an_edit_as_a_stream(client: OpenAI, files: tuple[Path, Path]) -> None:
    stream = client.images.edit(image=files[0], prompt="a heart", stream=True, extra_body={"steps": 4})
    (event,) = stream
    assert (event.type, opened(event.b64_json).size) == ("image_edit.completed", (64, 64))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_variations(client: OpenAI, files: tuple[Path, Path]) -> None:
    made = client.images.create_variation(image=files[0], n=2, response_format="b64_json", extra_body={"steps": 4})
    one, other = (opened(each.b64_json).tobytes() for each in made.data or ())
    assert one != other


def test_models(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "atelier-shapes" in names
    assert client.models.retrieve("Atelier-Shapes:latest").owned_by == "atelier"
    with pytest.raises(openai.NotFoundError, match="The model `x/z-image:latest` does not exist"):
        client.models.retrieve("x/z-image:latest")


def test_errors_are_the_clients_own(client: OpenAI, atelier: Atelier) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a cat", extra_body={"bogus": 1})
    assert (refused.value.code, refused.value.param, refused.value.type) == (
        "unknown_parameter",
        "bogus",
        "invalid_request_error",
    )
    stranger = OpenAI(api_key="app-nobody", base_url=f"{atelier.url}/v1", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.skipif(not HAS_NPM, reason=WITHOUT)
def test_the_client_for_javascript(atelier: Atelier, files: tuple[Path, Path]) -> None:
    said = in_node("openai.mjs", atelier, files)
    assert "atelier-shapes" in said.pop("models")
    assert said == {
        "generated": [["iVBORw0K", 7], ["iVBORw0K", 8]],
        "last": "image_generation.completed",
        "edited": "png",
        "varied": 7,
        "model": "model",
        "refused": [404, "model_not_found"],
    }


@pytest.mark.skipif(not HAS_NPM, reason=WITHOUT)
def test_the_ai_sdk(atelier: Atelier, files: tuple[Path, Path]) -> None:
    assert in_node("ai_sdk.mjs", atelier, files) == {
        "a checkpoint": [2, "image/png", 0],
        "a name of OpenAI's": [1, "image/png", 0],
        "an edit": [1, "image/png", 0],
    }


def in_node(program: str, server: Atelier, files: tuple[Path, Path]) -> Any:
    """What the program says of its calls."""
    words = [str(NPM), f"{server.url}/v1", server.key, *map(str, files)]
    said = subprocess.run(["node", str(Path(__file__).with_name(program)), *words], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)
