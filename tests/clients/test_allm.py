"""What ALLM's serializer writes, with the checkpoint that ships: a mask paints where it says, and nowhere else."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.dialects import allm_image, half, png
from tests.servers import Atelier

RED = png()
MASKS = {
    "white is painted": half("L", 255, 0),
    "transparent is painted": half("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)),
}


def as_allm_writes_it(**said: Any) -> dict[str, Any]:
    """Every field is there, with null for what was not said."""
    fields = dict.fromkeys(("model", "prompt", "size", "quality", "style", "background", "mask"))
    rest = {"operation": "generate", "n": 1, "response_format": "binary", "input_images": [], "metadata": {}}
    return {"__type__": "ALLM.ImageRequest", "data": {**fields, **rest, "options": {"seed": 7, "steps": 4}, **said}}


def painted(atelier: Atelier, **said: Any) -> Image.Image:
    answer = atelier.http.post("/v1/allm/image", json=as_allm_writes_it(**said))
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["data"]["images"]
    return Image.open(io.BytesIO(base64.b64decode(image["data"]["source"]["value"]))).convert("RGB")


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("place", ["mask", "second picture"])
def test_only_what_the_mask_shows_is_painted(atelier: Atelier, mask: bytes, place: str) -> None:
    images, mask_of = [allm_image(RED)], {"mask": allm_image(mask)}
    said = mask_of if place == "mask" else {}
    images += [] if said else [allm_image(mask)]
    made = painted(atelier, operation="edit", prompt="a blue circle", input_images=images, **said)
    changed = ImageChops.difference(made, Image.open(io.BytesIO(RED))).getbbox()
    assert changed is not None
    assert changed[2] <= 32, "the right half is not to be touched"


def test_pictures_are_generated_and_varied(atelier: Atelier) -> None:
    made = painted(atelier, prompt="a big red heart on a white background")
    written = io.BytesIO()
    made.save(written, "PNG")
    again = painted(atelier, operation="variation", input_images=[allm_image(written.getvalue())])
    assert made.size == again.size == (64, 64)
    assert ImageChops.difference(made, again).getbbox() is not None
