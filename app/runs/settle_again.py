"""What a worker is told of a picture that is to be made again: its own settings, with what is here of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.checkpoints.adapters import Kind
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.domain.recipe import Recipe, read_recipe
from app.errors import CheckpointUnavailable
from app.graph.execute import WorkerCall
from app.runs.bounds import check_size, check_strength
from app.runs.fitting import Fitting


def settled_again(
    call: WorkerCall, catalogue: Catalogue, stand_ins: Mapping[str, str]
) -> tuple[dict[str, Any], str | None]:
    """(the step's inputs, the checkpoint's name). The recipe was settled once: nothing is chosen anew.

    Adapters that are not here are left out, and said. A checkpoint that Atelier named has to be here, unless the call
    names another. Raises CheckpointUnavailable, and InvalidParam for what no picture could come of.
    """
    again = call.arguments["again"]
    recipe, _ = read_recipe(again["recipe"])
    inputs = dict(call.inputs)
    if recipe.checkpoint is None:
        fitting = Fitting(catalogue.adapters, None, lenient=True)
        inputs["upscaler"] = fitting.upscaler(inputs.get("upscaler"), "upscaler", "lanczos")
        return _said(inputs, fitting), None
    checkpoint = _checkpoint(recipe, again.get("model_name", ""), catalogue, stand_ins)
    fitting = Fitting(catalogue.adapters, checkpoint.family, lenient=True)
    inputs |= {"model_name": checkpoint.name, **_adapters(inputs, checkpoint, fitting)}
    if not recipe.is_ours:  # elsewhere a textual inversion is a word of the prompt, and named nowhere else
        inputs |= fitting.embeddings(recipe.prompt, recipe.negative_prompt)
    for name in ("loras", "embeddings", "vae", "control_net"):
        if not inputs.get(name):
            inputs.pop(name, None)
    if "control_net" not in inputs:
        inputs.pop("control_image", None)
    for name, steps in (("strength", "steps"), ("hires_strength", "hires_steps")):
        if name in inputs:
            check_strength(inputs[name], inputs[steps], name)
    check_size(inputs)
    return _said(inputs, fitting), checkpoint.name


def _said(inputs: dict[str, Any], fitting: Fitting) -> dict[str, Any]:
    return inputs | ({"left_out": fitting.left_out} if fitting.left_out else {})


def _checkpoint(recipe: Recipe, named: str, catalogue: Catalogue, stand_ins: Mapping[str, str]) -> Checkpoint:
    """The one that is called so, else the same file under another name; for another server's, what stands in for it."""
    if named:
        return catalogue.get(named)
    name = recipe.checkpoint or ""
    try:
        return catalogue.get(name)
    except CheckpointUnavailable:
        if found := catalogue.with_hash(recipe.checkpoint_hash):
            return found
        if recipe.is_ours:
            raise
    return catalogue.stand_in(name, stand_ins) if name else catalogue.default()


def _adapters(inputs: Mapping[str, Any], checkpoint: Checkpoint, fitting: Fitting) -> dict[str, Any]:
    """The recipe's adapters as far as they are here and fit."""
    nets, files = inputs.get("control_net", ()), inputs.get("control_image", ())
    kept = [(net, file) for net, file in zip(_here("controlnet", nets, fitting), files, strict=True) if net]
    words = (fitting.named("embedding", word) for word in inputs.get("embeddings", ()))
    found: dict[str, Any] = {
        "loras": [use for use in _here("lora", inputs.get("loras", ()), fitting) if use],
        "embeddings": [word for word in words if word],
        "vae": _vae(inputs.get("vae", ""), checkpoint, fitting),
        "control_net": [net for net, _ in kept],
        "control_image": [file for _, file in kept],
    }
    for name, unsaid in (("hires_upscaler", "latent"), ("upscaler", "lanczos")):
        if name in inputs:
            found[name] = fitting.upscaler(inputs[name], name, unsaid)
    return found


def _here(kind: Kind, uses: Sequence[Mapping[str, Any]], fitting: Fitting) -> list[dict[str, Any] | None]:
    """Each under the name that it has here; None for one that is not here."""
    named = ((use, fitting.named(kind, use["name"])) for use in uses)
    return [{**use, "name": name} if name else None for use, name in named]


def _vae(name: str, checkpoint: Checkpoint, fitting: Fitting) -> str:
    """Empty for that which the checkpoint has by itself."""
    own = {checkpoint.vae, Path(checkpoint.vae_path).stem}
    return "" if not name or name in own else fitting.named("vae", name) or ""
