"""What a workflow needs of its installation besides its document: endpoints for language models, and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from app.checkpoints.catalogue import Catalogue, bare_name
from app.errors import CheckpointUnavailable, InvalidParam, NodeFailed
from app.graph.body import Node
from app.graph.graph import Graph
from app.graph.nodes.kind import problem_of
from app.graph.nodes.llm import Llm
from app.graph.nodes.parameter_extractor import ParameterExtractor
from app.graph.nodes.question_classifier import QuestionClassifier
from app.graph.nodes.tool import Constant, ToolCall
from app.settings import Settings


def unmet(graph: Graph, settings: Settings, catalogue: Catalogue) -> Iterator[str]:
    """What is missing here, each with its node and the way out. The document can be published all the same."""
    bodies = (graph, *graph.bodies.values())
    for node in chain.from_iterable(body.nodes.values() for body in bodies):
        missing = _unmet(node, settings, catalogue)
        if missing:
            yield problem_of(node.id, node.title, missing)


def _unmet(node: Node, settings: Settings, catalogue: Catalogue) -> str | None:
    work = node.work
    if isinstance(work, Llm | ParameterExtractor | QuestionClassifier):
        model = work.model
        if settings.llm_endpoint(model.provider, model.name) or (isinstance(work, Llm) and not work.needs_endpoint):
            return None
        named = f"the model '{model.name}' of the provider '{model.provider}'"
        return f"no endpoint is configured for {named}: set ATELIER_LLM_ENDPOINTS (docs/llm.md)"
    if isinstance(work, ToolCall) and work.tool.work_class == "gpu":
        return _unmet_checkpoint(work, settings, catalogue)
    return None


def _unmet_checkpoint(work: ToolCall, settings: Settings, catalogue: Catalogue) -> str | None:
    """Of what the document fixes; what a run decides is known when it comes."""
    fixed = {name: argument.value for name, argument in work.arguments if isinstance(argument, Constant)}
    try:
        asked = work.tool.call(dict.fromkeys(work.tool.required, "x") | fixed).inputs
        if name := asked.get("model_name"):
            catalogue.get(str(name))
        elif name := asked.get("asked_model"):
            found = catalogue.stand_in(str(name), settings.checkpoint_names).name
            if found != bare_name(str(name)) and str(name) not in settings.checkpoint_names:
                return f"the model '{name}' is painted with {found}: ATELIER_CHECKPOINT_NAMES names another"
    except CheckpointUnavailable as error:
        return error.message
    except (InvalidParam, NodeFailed):
        pass  # it depends on what a run gives
    return None
