"""What a picture says of how it was made: enough to make it again, and to tell what is otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.errors import InvalidParam

LONGEST = 1024 * 1024
"""Bytes of a recipe's JSON. Whoever writes files can write anything into them."""

MOST_WORDS = 32_000
"""Characters of a prompt, as our tools take them."""

Short = Annotated[str, Meta(max_length=256)]
Words = Annotated[str, Meta(max_length=MOST_WORDS)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, Meta(ge=8, le=2048, multiple_of=8)]
ShownSide = Annotated[int, Meta(ge=1, le=8192)]
Steps = Annotated[int, Meta(ge=1, le=150)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 9)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=-5, le=5)]

Role = Literal["checkpoint", "text_encoder", "vae", "lora", "embedding", "controlnet", "hires_upscaler", "upscaler"]


class UsedFile(msgspec.Struct, frozen=True):
    """Weights that had a part in the picture. `hash`: the first ten hex digits of the SHA-256, where it was known."""

    role: Role
    name: Short
    hash: Annotated[str, Meta(pattern="^[0-9a-fA-F]{0,64}$")] = ""


class UsedLora(msgspec.Struct, frozen=True, omit_defaults=True):
    name: Short
    weight: Weight = 1.0
    text_weight: Weight | None = None


class UsedControl(msgspec.Struct, frozen=True):
    """A ControlNet and what it followed."""

    name: Short
    image: Sha256
    weight: Annotated[float, Meta(ge=0, le=5)] = 1.0
    start: Fraction = 0.0
    end: Fraction = 1.0


class UsedHires(msgspec.Struct, frozen=True):
    scale: Annotated[float, Meta(ge=1, le=4)] = 2.0
    strength: Fraction = 0.5
    steps: Annotated[int, Meta(ge=0, le=150)] = 0  # as many as the first pass
    upscaler: Short = "latent"


class UsedEnlargement(msgspec.Struct, frozen=True):
    scale: Annotated[float, Meta(ge=1, le=8)] = 2.0
    upscaler: Short = "lanczos"


class Recipe(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One picture's settings, as its file holds them. Without a `checkpoint` it is a picture that was only enlarged.

    Given pictures are named by their SHA-256. `n` does not belong here: each of several pictures has its own seed.
    """

    checkpoint: Short | None = None
    checkpoint_hash: Annotated[str, Meta(pattern="^[0-9a-fA-F]{0,64}$")] = ""
    family: Short = ""
    prediction: Short = ""
    prompt: Words = ""
    negative_prompt: Words = ""
    width: Side | None = None
    height: Side | None = None
    steps: Steps | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=30)] | None = None
    seed: Seed | None = None
    sampler: Short | None = None
    clip_skip: Annotated[int, Meta(ge=1, le=12)] = 1
    variation_seed: Seed = 0
    variation_strength: Fraction = 0.0
    image: Sha256 | None = None
    mask: Sha256 | None = None
    strength: Fraction | None = None
    references: Annotated[tuple[Sha256, ...], Meta(max_length=15)] = ()
    reference_weight: Fraction | None = None
    loras: Annotated[tuple[UsedLora, ...], Meta(max_length=16)] = ()
    embeddings: Annotated[tuple[Short, ...], Meta(max_length=256)] = ()
    controls: Annotated[tuple[UsedControl, ...], Meta(max_length=4)] = ()
    vae: Short | None = None
    hires: UsedHires | None = None
    enlarge: UsedEnlargement | None = None
    shown_size: tuple[ShownSide, ShownSide] | None = None
    format: Literal["png", "jpeg", "webp"] = "png"
    quality: Annotated[int, Meta(ge=1, le=100)] = 90
    exclusive: bool = False
    files: Annotated[tuple[UsedFile, ...], Meta(max_length=512)] = ()
    device: Short = ""
    dtype: Short = ""
    without: Annotated[tuple[Short, ...], Meta(max_length=16)] = ()
    versions: Annotated[dict[Short, Short], Meta(max_length=64)] = {}

    @property
    def pictures(self) -> dict[str, str]:
        """What it was made from, by what it was there for: name → SHA-256."""
        named = {"image": self.image, "mask": self.mask}
        named |= {f"reference {i + 1}": sha256 for i, sha256 in enumerate(self.references)}
        named |= {f"picture for ControlNet {i + 1}": control.image for i, control in enumerate(self.controls)}
        return {name: sha256 for name, sha256 in named.items() if sha256}

    @property
    def is_ours(self) -> bool:
        """Whether Atelier wrote it: then its names are those of files that were here."""
        return "atelier" in self.versions

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


class Difference(msgspec.Struct, frozen=True):
    """A setting that is not as it was. None: there is none."""

    name: str
    was: Any
    now: Any

    @property
    def sentence(self) -> str:
        if self.was is None:
            return f"{self.name} is {self.now}, and was not there"
        if self.now is None:
            return f"{self.name} was {self.was}, and is not there"
        return f"{self.name} was {self.was}, and is {self.now}"


def read_recipe(text: str) -> tuple[Recipe, tuple[str, ...]]:
    """(the recipe, the names in it that nobody knows here). Raises InvalidParam for what is none."""
    if len(text) > LONGEST:
        raise InvalidParam(f"The recipe has more than {LONGEST} characters.", params="recipe")
    try:
        written = msgspec.json.decode(text)
        recipe = msgspec.convert(written, Recipe)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidParam(f"The recipe can't be read: {error}", params="recipe") from None
    _check(recipe)
    return recipe, tuple(_strangers(written, Recipe))


def differences(was: Recipe, now: Recipe) -> tuple[Difference, ...]:
    """What the second does otherwise. What the first does not say of files, device or software is no difference."""
    old, new = (dict(_leaves(_comparable(each))) for each in (was, now))
    untold = _UNTOLD if was.is_ours else _UNTOLD | {"embeddings"}  # elsewhere they are words of the prompt, and no more
    names = [*old, *(name for name in new if name not in old and name.partition(".")[0] not in untold)]
    return tuple(
        Difference(name, old.get(name), new.get(name))
        for name in names
        if not _is_same(name, old.get(name), new.get(name))
    )


_UNTOLD = frozenset({"checkpoint_hash", "family", "prediction", "files", "device", "dtype", "versions"})
_NESTED: Mapping[str, type[msgspec.Struct]] = {
    "files": UsedFile,
    "loras": UsedLora,
    "controls": UsedControl,
    "hires": UsedHires,
    "enlarge": UsedEnlargement,
}


def _check(recipe: Recipe) -> None:
    """What belongs together. Raises InvalidParam."""
    painting = ("width", "height", "steps", "guidance_scale", "seed", "sampler")
    needed = painting if recipe.checkpoint is not None else ("image", "enlarge")
    missing = [name for name in needed if getattr(recipe, name) is None]
    if missing and recipe.checkpoint is None:
        said = "The recipe is none of Atelier's: it names no checkpoint, and no picture that was only enlarged."
        raise InvalidParam(said, params="recipe")
    if missing:
        raise InvalidParam(f"The recipe lacks {', '.join(missing)}.", params="recipe")
    for name in ("mask", "references"):
        if getattr(recipe, name) and not recipe.image:
            raise InvalidParam(f"The recipe has {name}, and no image to go with it.", params="recipe")
    for control in recipe.controls:
        if control.start >= control.end:
            raise InvalidParam(f"The recipe's ControlNet '{control.name}' ends before it begins.", params="recipe")


def _strangers(written: Mapping[str, Any], kind: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    """The names in a decoded object that its struct does not have, with where they stand."""
    for name, value in written.items():
        if name not in kind.__struct_fields__:
            yield f"{path}{name}"[:256]
        elif kind is Recipe and name in _NESTED:
            for each in value if isinstance(value, list) else [value] if value else []:
                yield from _strangers(each, _NESTED[name], f"{name}.")


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """Files by their role and name. Left out is what is not said, and what does nothing.

    Whether it was painted alone is no setting of the picture.
    """
    value = {name: each for name, each in _parts(recipe).items() if each not in ("", [])}
    value["files"] = {f"{each.role} {each.name}": each.hash for each in recipe.files if each.hash}
    for name in ("loras", "controls"):
        value[name] = {use.name: {**_parts(use), "name": None} for use in getattr(recipe, name)}
    if recipe.hires:
        value["hires"]["steps"] = recipe.hires.steps or recipe.steps
    value["embeddings"] = dict.fromkeys(recipe.embeddings, True)
    idle = {"exclusive": True, "strength": not recipe.image, "variation_seed": not recipe.variation_strength}
    return {name: each for name, each in value.items() if not idle.get(name)}


def _parts(struct: msgspec.Struct) -> dict[str, Any]:
    """All of its fields, as JSON has them."""
    parts: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.structs.asdict(struct)))
    return parts


def _is_same(name: str, was: Any, now: Any) -> bool:
    """A hash may be told in ten digits or in all of them, in any case."""
    if was and now and (name == "checkpoint_hash" or name.startswith("files.")):
        shorter, longer = sorted((was.lower(), now.lower()), key=len)
        return bool(longer.startswith(shorter))
    return bool(was == now)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(path, plain value) of everything in it but None."""
    if not isinstance(value, Mapping):
        if value is not None:
            yield name, value
        return
    for key, each in value.items():
        yield from _leaves(each, f"{name}.{key}" if name else str(key))
