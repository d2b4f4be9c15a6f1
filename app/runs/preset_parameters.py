"""The parameters that a preset may have: what the documents that ship give to the tools that paint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from app.checkpoints.adapters import Adapters
from app.checkpoints.checkpoint import Checkpoint
from app.errors import InvalidParam
from app.graph.tools.image_tools import OWN_IMAGE_TOOLS
from app.graph.tools.parameters import ToolParameter, check_argument
from app.runs.fitting import Fitting
from app.runs.shipped import shipped

_DOCUMENTS = ("text-to-image", "image-edit", "image-variation", "inpaint")
_MANY = 10
_EACH_REQUESTS_OWN = frozenset({"prompt", "model_name", "n"})


@cache
def preset_parameters() -> Mapping[str, ToolParameter]:
    """By name, those that at least one of the documents takes."""
    taken = {variable.name for document in _DOCUMENTS for variable in shipped(document).graph.start.variables}
    known = {each.name: each for tool in reversed(OWN_IMAGE_TOOLS) for each in tool.parameters}
    wanted = sorted(taken & known.keys() - _EACH_REQUESTS_OWN)
    return {name: known[name] for name in wanted if known[name].type not in ("picture", "pictures")}


def check_parameters(given: Mapping[str, Any], checkpoint: Checkpoint, adapters: Adapters) -> dict[str, Any]:
    """The parameters with their types; those that say nothing are left out.

    Raises InvalidParam with the name and what it may be, CheckpointUnavailable for a LoRA or a VAE that is not there
    or that is for other checkpoints.
    """
    known = preset_parameters()
    for name in given:
        if name not in known:
            raise InvalidParam(f"parameter '{name}' is taken by no tool here; there are {_listing()}", params=name)
    checked = {name: check_argument(known[name], value) for name, value in given.items()}
    found = {name: value for name, value in checked.items() if value not in (None, "")}
    fitting = Fitting(adapters, checkpoint.family, lenient=False)
    fitting.loras({"loras": found.get("loras"), "prompt": ""})
    fitting.vae(found.get("vae"))
    return found


def _listing() -> str:
    return "; ".join(f"{name}, {_range(each)}" for name, each in preset_parameters().items())


def _range(parameter: ToolParameter) -> str:
    count = len(parameter.options)
    return parameter.expectation if count < _MANY else f"one of {count} names such as {parameter.options[0]}"
