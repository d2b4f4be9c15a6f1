"""What an author should know of a document's models: they are looked up when a run begins, so no graph can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.checkpoints.catalogue import Catalogue, bare_name
from app.errors import CheckpointUnavailable
from app.graph.graph import Graph
from app.graph.nodes.kind import problem_of
from app.graph.nodes.tool import Constant, ToolCall
from app.graph.tools.text_to_image import PROVIDER


def model_warnings(graph: Graph, catalogue: Catalogue, names: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each model and each LoRA that is not there, and what happens instead, if anything does."""
    for body in (graph, *graph.bodies.values()):
        for node in body.nodes.values():
            if isinstance(node.work, ToolCall):
                said = (_said_of(node.work, catalogue, names), *_said_of_loras(node.work, catalogue))
                yield from (problem_of(node.id, node.title, each) for each in said if each)


def _said_of(work: ToolCall, catalogue: Catalogue, names: Mapping[str, str]) -> str:
    own = dict(work.arguments).get("model_name") if work.tool.provider == PROVIDER else None
    try:
        if isinstance(own, Constant) and own.value:
            catalogue.get(own.value)
        return _said_of_foreign(work.model, catalogue, names) if work.model else ""
    except CheckpointUnavailable as error:
        return f"its runs can't be painted: {error.message}"


def _said_of_loras(work: ToolCall, catalogue: Catalogue) -> Iterator[str]:
    for name in work.loras:
        try:
            catalogue.adapters.find("lora", bare_name(name))
        except CheckpointUnavailable as error:
            is_own = work.tool.provider == PROVIDER
            yield f"its runs can't be painted: {error.message}" if is_own else f"{error.message} Runs leave it out."


def _said_of_foreign(model: str, catalogue: Catalogue, names: Mapping[str, str]) -> str:
    """Raises CheckpointUnavailable."""
    found = catalogue.stand_in(model, names)
    if found.name in (model, bare_name(model)) or {model, bare_name(model)} & names.keys():
        return ""
    return f"model '{model}' is not installed: '{found.name}' paints instead; ATELIER_CHECKPOINT_NAMES can say another"
