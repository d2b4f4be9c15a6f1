"""A picture as a file that says how it was made: PNG, JPEG or WebP.

Each carries the settings twice: `parameters`, in the syntax of AUTOMATIC1111 that galleries and other image servers
read, and `atelier`, the same and more as JSON. PNG has text chunks for them; JPEG and WebP have EXIF, where the first
is the user comment (as AUTOMATIC1111 does it) and the second the image description.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

from PIL import Image as Picture
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

from workers.diffusion.drawing.schedulers import sampler
from workers.diffusion.pictures.images import Pixels
from workers.diffusion.request import EnlargeRequest, ImageRequest

MOST_EXIF = 65_000  # bytes: a JPEG has one segment for it


def encode(pixels: Pixels, request: ImageRequest | EnlargeRequest, made_on: Mapping[str, Any] | None = None) -> bytes:
    """`pixels` of (height, width, 3) as a file of the request's format, with the settings of this one picture and the
    device that it was made on (`machine.described`).

    PNG is compressed lightly: more effort is not worth its time.
    """
    made = {**settings(request), **(made_on or {})}
    written = parameters(request), json.dumps(made, ensure_ascii=request.format != "png")
    file = io.BytesIO()
    picture = Picture.fromarray(pixels)
    if request.format == "png":
        picture.save(file, "PNG", pnginfo=_chunks(*written), compress_level=1)
    elif request.format == "webp":
        picture.save(file, "WEBP", quality=request.quality, exif=_exif(*written))
    else:
        picture.save(file, "JPEG", quality=request.quality, exif=_fitting_exif(*written))
    return file.getvalue()


def parameters(request: ImageRequest | EnlargeRequest) -> str:
    """The settings as AUTOMATIC1111 writes them: prompt, negative prompt, and one line of names and values.

    LoRAs stand in the prompt, as they would be asked for there.
    """
    if isinstance(request, EnlargeRequest):
        return _line(_enlarging(request))
    loras = [f"<lora:{each.name}:{each.weight:g}>" for each in request.loras]
    negative = [f"Negative prompt: {_plain(request.negative_prompt)}"] if request.negative_prompt else []
    return "\n".join([
        " ".join([_plain(request.prompt), *loras]).strip(),
        *negative,
        _line({**_painting(request), **_departures(request), **_enlarging(request)}),
    ])  # fmt: skip


def settings(request: ImageRequest | EnlargeRequest) -> dict[str, Any]:
    """Everything that this one picture depends on, without where files lay; given pictures by their SHA-256."""
    values = asdict(request) | {"versions": versions()}
    if isinstance(request, ImageRequest):
        weights = values.pop("weights")
        values |= {"checkpoint": weights["name"], "checkpoint_hash": weights["hash"], "family": weights["family"]}
        values |= {"prediction": weights["prediction"], "vae": _name(request, "vae", weights["vae_path"])}
        values |= {"prompt": _plain(request.prompt), "negative_prompt": _plain(request.negative_prompt)}
        values |= {"sampler": sampler(request.sampler).name, "embeddings": [word for word, _ in request.embeddings]}
        for name in ("n", "previews", "preview_path", "keep_alive_s"):
            del values[name]
        if not request.references:
            del values["reference_weight"]
    told: dict[str, Any] = _told(values)
    for name, role in (("hires", "hires_upscaler"), ("enlarge", "upscaler")):
        if name in told:
            told[name]["upscaler"] = _name(request, role, told[name]["upscaler"])
    return told


@cache
def versions() -> dict[str, str]:
    return {name: _version(name) for name in ("atelier", "torch", "diffusers", "transformers", "pillow")}


def _painting(request: ImageRequest) -> dict[str, object]:
    """What every painted picture has."""
    weights = request.weights
    return {
        "Steps": request.steps,
        "Sampler": sampler(request.sampler).title,
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": weights.hash,
        "Model": weights.name,
        "VAE": _name(request, "vae", weights.vae_path),
    }


def _departures(request: ImageRequest) -> dict[str, object]:
    """What makes a picture more than one of a text."""
    values: dict[str, object] = {}
    if request.clip_skip > 1:
        values["Clip skip"] = request.clip_skip
    if request.variation_strength > 0:
        values["Variation seed"] = request.variation_seed
        values["Variation seed strength"] = f"{request.variation_strength:g}"
    if request.image is not None:
        values["Denoising strength"] = f"{request.strength:g}"
    for i, reference in enumerate(request.references):
        values[f"Reference {i}"] = f"{hashlib.sha256(reference).hexdigest()}, Weight: {request.reference_weight:g}"
    if hires := request.hires:
        values.setdefault("Denoising strength", f"{hires.strength:g}")
        values["Hires upscale"] = f"{hires.scale:g}"
        values["Hires steps"] = hires.steps or request.steps
        values["Hires upscaler"] = _name(request, "hires_upscaler", hires.upscaler)
    for i, control in enumerate(request.controls):
        values[f"ControlNet {i}"] = (
            f"Model: {control.name}, Weight: {control.weight:g}, "
            f"Guidance Start: {control.start:g}, Guidance End: {control.end:g}"
        )
    return values


def _enlarging(request: ImageRequest | EnlargeRequest) -> dict[str, object]:
    enlarge = request.enlarge
    if enlarge is None:
        return {}
    upscaler = _name(request, "upscaler", enlarge.upscaler)
    return {"Postprocess upscale by": f"{enlarge.scale:g}", "Postprocess upscaler": upscaler}


def _line(values: dict[str, object]) -> str:
    values = {**values, "Version": f"atelier {versions()['atelier']}"}
    return ", ".join(f"{name}: {_quoted(str(value))}" for name, value in values.items() if value != "")


def _told(value: Any) -> Any:
    """`value` without what it lacks; no paths, no bytes."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: each for name, each in value.items() if each not in (None, "", (), []) and name != "path"}
    return {name: _stem(each) if name == "upscaler" else _told(each) for name, each in kept.items()}


def _name(request: ImageRequest | EnlargeRequest, role: str, path: str) -> str:
    """Of what `path` holds, as it was asked for: a file that had to be converted lies under another name."""
    return next((file.name for file in request.files if file.role == role), _stem(path))


def _stem(path: str) -> str:
    return PurePath(path).stem


def _chunks(parameters: str, settings: str) -> PngInfo:
    """Text that Latin-1 can't hold becomes an iTXt chunk in UTF-8."""
    chunks = PngInfo()
    chunks.add_text("parameters", parameters)
    chunks.add_text("atelier", settings)
    return chunks


def _exif(parameters: str, settings: str) -> bytes:
    exif = Picture.Exif()
    exif[Base.ImageDescription] = settings
    exif[Base.Software] = f"atelier {versions()['atelier']}"
    exif.get_ifd(IFD.Exif)[Base.UserComment] = b"UNICODE\0" + parameters.encode("utf-16-be")
    return exif.tobytes()


def _fitting_exif(parameters: str, settings: str) -> bytes:
    """As much as a JPEG can hold: a very long prompt costs the JSON first, and then its own end."""
    for written in ((parameters, settings), (parameters, ""), (parameters[:30_000], "")):
        exif = _exif(*written)
        if len(exif) <= MOST_EXIF:
            return exif
    return b""


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
