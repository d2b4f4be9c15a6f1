"""The tool that makes a picture again, from what its file says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.domain.artifact import is_artifact
from app.domain.recipe import Recipe
from app.errors import InvalidParam
from app.graph.tools.parameters import Call, Review
from app.graph.tools.recipe_text import read_said
from app.graph.tools.samplers import choose_sampler
from app.graph.values import Value

_KNOWN = ("recipe", "picture", "given", "model_name")


class AgainTool(msgspec.Struct, frozen=True):
    """Takes a `recipe`: the JSON that Atelier writes into its pictures, or A1111's parameters.

    `picture` is the file that it was found in: the new picture is compared with it. `given` are those that the first
    one was made from, in any order; `model_name` is a checkpoint in place of its own.
    """

    provider: str = "atelier/diffusion"
    name: str = "again"
    work_class: str = "gpu"
    required: frozenset[str] = frozenset({"recipe"})
    pictures: frozenset[str] = frozenset({"picture", "given"})

    def call(self, values: Mapping[str, Any]) -> Call:
        """Raises InvalidParam for a recipe that nothing could be made of, or without the pictures that it needs."""
        recipe, notes = read_said(_text(values.get("recipe")))
        given = _found(recipe, values.get("given"))
        inputs = _painting(recipe) if recipe.checkpoint is not None else _enlarging(recipe)
        picture, model = _file(values.get("picture")), _text(values.get("model_name") or "")
        again: dict[str, Any] = {"recipe": recipe.to_json(), "picture": picture, "model_name": model}
        return Call(inputs | _begun_with(recipe, given), {"again": again, **({"left_out": notes} if notes else {})})

    def review(self, constants: Mapping[str, Any], written: Iterable[str], is_typed: bool) -> Review:
        strangers = [name for name in written if name not in _KNOWN]
        problems = [f"'{name}' is not a parameter of {self.name}; it takes {', '.join(_KNOWN)}" for name in strangers]
        if "recipe" in constants:
            try:
                read_said(_text(constants["recipe"]))
            except InvalidParam as error:
                problems.append(error.message)
        return Review(tuple(problems))


def _painting(recipe: Recipe) -> dict[str, Any]:
    """The inputs of a step as they are settled for our other tools; only `model_name` is still as it was asked for."""
    if choose_sampler(recipe.sampler or "") is None:
        raise InvalidParam(f"There is no sampler '{recipe.sampler}'.", params="recipe")
    width, height = recipe.width, recipe.height
    if shown := recipe.shown_size:  # it was painted smaller than it was asked for
        scale = recipe.hires.scale if recipe.hires else 1
        width, height = round(shown[0] / scale), round(shown[1] / scale)
    return {
        "prompt": recipe.prompt,
        "negative_prompt": recipe.negative_prompt,
        "model_name": recipe.checkpoint,
        "width": width,
        "height": height,
        **({"painted_size": (recipe.width, recipe.height)} if shown else {}),
        "steps": recipe.steps,
        "guidance_scale": recipe.guidance_scale,
        "seed": recipe.seed,
        "n": 1,
        "scheduler": recipe.sampler,
        "clip_skip": recipe.clip_skip,
        **_departures(recipe),
        "format": recipe.format,
        "quality": recipe.quality,
        "exclusive": True,
    }


def _departures(recipe: Recipe) -> dict[str, Any]:
    """What makes a picture more than one of a text."""
    found: dict[str, Any] = {}
    if recipe.variation_strength:
        found |= {"variation_seed": recipe.variation_seed, "variation_strength": recipe.variation_strength}
    if recipe.image is not None:
        found["strength"] = 0.75 if recipe.strength is None else recipe.strength
    if recipe.reference_weight is not None:
        found["reference_weight"] = recipe.reference_weight
    if recipe.loras:
        found["loras"] = [msgspec.to_builtins(each) | {"weight": each.weight} for each in recipe.loras]
    if recipe.embeddings:
        found["embeddings"] = list(recipe.embeddings)
    if recipe.vae:
        found["vae"] = recipe.vae
    if recipe.hires:
        found |= {f"hires_{name}": value for name, value in msgspec.structs.asdict(recipe.hires).items()}
        found["hires_steps"] = recipe.hires.steps or recipe.steps
    if recipe.enlarge:
        found |= {"upscale": recipe.enlarge.scale, "upscaler": recipe.enlarge.upscaler}
    return found


def _enlarging(recipe: Recipe) -> dict[str, Any]:
    return {**_departures(recipe), "format": recipe.format, "quality": recipe.quality}


def _found(recipe: Recipe, given: Value) -> dict[str, Any]:
    """The given pictures by their hash. Raises InvalidParam for one that the recipe names and that is not there."""
    files = given if isinstance(given, list) else [given] if given else []
    found = {file["sha256"]: file for file in files if is_artifact(file)}
    for name, sha256 in recipe.pictures.items():
        if sha256 not in found:
            said = f"The {name} that the recipe names is not there: a file with the SHA-256 {sha256}"
            raise InvalidParam(said, params="given")
    return found


def _begun_with(recipe: Recipe, found: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures, as our other tools take them."""
    named = {"image": recipe.image, "mask": recipe.mask}
    files: dict[str, Any] = {name: found[sha256] for name, sha256 in named.items() if sha256}
    if recipe.references:
        files["reference"] = [found[sha256] for sha256 in recipe.references]
    if controls := recipe.controls:
        files["control_net"] = [{"name": each.name, "weight": each.weight} for each in controls]
        files["control_image"] = [found[each.image] for each in controls]
        files |= {"control_start": controls[0].start, "control_end": controls[0].end}
    return files


def _file(value: Value) -> dict[str, Any] | None:
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not one:
        return None
    if not is_artifact(one):
        raise InvalidParam("picture must be a file", params="picture")
    return one


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise InvalidParam("recipe must be a text: what Atelier or A1111 writes into a picture", params="recipe")
    return value


AGAIN = AgainTool()
