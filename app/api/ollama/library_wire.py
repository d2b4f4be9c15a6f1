"""What Ollama's clients send to make a model, in all the forms that they have had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.api.ollama.modelfile import Modelfile, read_modelfile
from app.api.pictures.extras import ALIASES
from app.errors import InvalidParam
from app.runs.library import Making
from app.runs.presets import Recipe


class OllamaCreateRequest(msgspec.Struct):
    """A new model: `from` another one, or of `files` that were posted as blobs."""

    model: Annotated[str, Meta(examples=["watercolour"])] = ""
    name: Annotated[str, Meta(description="the same, as it was called before")] = ""
    from_: Annotated[str, Meta(description="the model that it comes from", examples=["atelier-shapes"])] = (
        msgspec.field(default="", name="from")
    )
    files: Annotated[dict[str, str], Meta(description="the path of each file → its digest")] = {}
    adapters: Annotated[dict[str, str], Meta(description="LoRAs: the name of each file → its digest")] = {}
    parameters: Annotated[dict[str, Any], Meta(description="what is painted with where a request leaves it open")] = {}
    template: str | None = None
    system: str | None = None
    license: Annotated[Any, Meta(description="a text, or several")] = None
    stream: Annotated[bool | None, Meta(description="false: one answer; else lines")] = None
    modelfile: Annotated[str, Meta(description="all of it as a Modelfile, as clients of 2024 send it")] = ""
    quantize: str = ""
    quantization: str = ""


def read_making(body: OllamaCreateRequest) -> Making:
    """Raises InvalidParam."""
    if body.quantize or body.quantization:
        raise InvalidParam("quantize: checkpoints are kept in the precision that they have", params="quantize")
    said = read_modelfile(body.modelfile) if body.modelfile else Modelfile()
    origin, files = body.from_ or said.origin, _digests("files", body.files)
    if origin.startswith("@"):
        origin, files = "", {"model.safetensors": origin[1:]}
    elif origin.startswith(("/", "./", "../", "~")):
        raise InvalidParam(f"FROM {origin} is a file: post it as a blob and write FROM @sha256:…", params="from")
    licence = _texts(body.license)
    adapters, loras = _adapters(said.adapters)
    parameters = _parameters({**said.parameters, **body.parameters}, loras)
    recipe = Recipe(
        parameters,
        body.system if body.system is not None else said.system,
        body.template if body.template is not None else said.template,
        licence if licence is not None else tuple(said.license) or None,
    )
    return Making(body.model or body.name, origin, files, {**adapters, **_digests("adapters", body.adapters)}, recipe)


def _texts(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    texts = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidParam("license: a text, or a list of texts", params="license")
    return tuple(texts)


def _digests(field: str, given: Mapping[str, Any]) -> dict[str, str]:
    for path, digest in given.items():
        if not isinstance(digest, str):
            raise InvalidParam(f"{field}: the digest of {path} must be a string", params=field)
    return dict(given)


def _adapters(written: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """(posted ones by the name that they get, the names of installed ones)."""
    posted, installed = {}, []
    for each in written:
        if each.startswith("@"):
            posted[f"adapter-{each[-12:]}.safetensors"] = each[1:]
        else:
            installed.append(each)
    return posted, installed


def _parameters(given: Mapping[str, Any], loras: Iterable[str]) -> dict[str, Any]:
    """Under the names that the tools have for them; several values of one are LoRAs, or the last of them counts."""
    found = {ALIASES.get(name.lower(), name.lower()): value for name, value in given.items()}
    wanted = found.pop("loras", None)
    found = {name: value[-1] if isinstance(value, list) and value else value for name, value in found.items()}
    listed = [*(wanted if isinstance(wanted, list) else [wanted] if wanted else []), *loras]
    return found | ({"loras": ", ".join(map(str, listed))} if listed else {})
