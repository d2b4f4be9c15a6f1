"""A picture as a PNG file that says how it was made.

Two text chunks: `parameters`, in the syntax of AUTOMATIC1111 that galleries and other image servers read, and
`atelier`, the same and more as JSON. Text that Latin-1 can't hold becomes an iTXt chunk in UTF-8.
"""

from __future__ import annotations

import io
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from PIL import Image as Picture
from PIL.Image import Resampling
from PIL.PngImagePlugin import PngInfo

from workers.diffusion.images import Pixels
from workers.diffusion.request import ImageRequest
from workers.diffusion.schedulers import sampler


def encode(pixels: Pixels, request: ImageRequest, seed: int) -> bytes:
    """`pixels` of (height, width, 3) as PNG, compressed lightly: more effort is not worth its time.

    The text says how the picture was painted, which may be smaller than it is shown.
    """
    chunks = PngInfo()
    chunks.add_text("parameters", parameters(request, seed))
    chunks.add_text("atelier", json.dumps(settings(request, seed), ensure_ascii=False))
    file = io.BytesIO()
    picture = Picture.fromarray(pixels)
    if request.shown_size:
        picture = picture.resize(request.shown_size, Resampling.LANCZOS)
    picture.save(file, "PNG", pnginfo=chunks, compress_level=1)
    return file.getvalue()


def parameters(request: ImageRequest, seed: int) -> str:
    """The settings as AUTOMATIC1111 writes them: prompt, negative prompt, and one line of names and values."""
    values = {
        "Steps": request.steps,
        "Sampler": sampler(request.sampler).title,
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": request.weights.hash,
        "Model": request.weights.name,
        "Version": f"atelier {versions()['atelier']}",
    }
    negative = [f"Negative prompt: {_plain(request.negative_prompt)}"] if request.negative_prompt else []
    line = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in values.items() if value != "")
    return "\n".join([_plain(request.prompt), *negative, line])


def settings(request: ImageRequest, seed: int) -> dict[str, object]:
    """Everything that this one picture depends on, its own seed for the batch's, without where the files lay."""
    weights = request.weights
    values = {name: getattr(request, name) for name in ("width", "height", "steps", "guidance_scale")}
    values |= {"checkpoint_name": weights.name, "checkpoint_hash": weights.hash, "family": weights.family}
    values |= {"seed": seed, "sampler": sampler(request.sampler).name, "versions": versions()}
    if request.shown_size is not None:
        values["shown_size"] = request.shown_size
    return values | {"prompt": _plain(request.prompt), "negative_prompt": _plain(request.negative_prompt)}


@cache
def versions() -> dict[str, str]:
    return {name: _version(name) for name in ("atelier", "torch", "diffusers", "transformers")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "from source"


def _plain(text: str) -> str:
    """Without what a text chunk can't hold: NUL ends it, and half a surrogate pair is no character."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


def _quoted(value: str) -> str:
    return json.dumps(_plain(value), ensure_ascii=False) if set(value) & set(',:\n"') else _plain(value)
