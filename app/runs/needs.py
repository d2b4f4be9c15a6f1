"""What a workflow needs of its installation besides its document: checkpoints, and endpoints for language models."""

from __future__ import annotations

from collections.abc import Iterator

from app.checkpoints.catalogue import Catalogue
from app.graph.graph import Graph
from app.graph.nodes.kind import NodeKind, problem_of
from app.graph.nodes.llm import Llm
from app.graph.nodes.parameter_extractor import ParameterExtractor
from app.graph.nodes.question_classifier import QuestionClassifier
from app.runs.model_warnings import model_warnings
from app.settings import Settings


def unmet(graph: Graph, settings: Settings, catalogue: Catalogue) -> Iterator[str]:
    """What is missing here, each with its node and the way out. The document can be published all the same."""
    yield from model_warnings(graph, catalogue, settings.checkpoint_names)
    for body in (graph, *graph.bodies.values()):
        for node in body.nodes.values():
            if missing := _missing_endpoint(node.work, settings):
                yield problem_of(node.id, node.title, missing)


def _missing_endpoint(work: NodeKind, settings: Settings) -> str | None:
    if not isinstance(work, Llm | ParameterExtractor | QuestionClassifier):
        return None
    model = work.model
    if settings.llm_endpoint(model.provider, model.name) or (isinstance(work, Llm) and not work.needs_endpoint):
        return None
    named = f"the model '{model.name}' of the provider '{model.provider}'"
    return f"no endpoint is configured for {named}: set ATELIER_LLM_ENDPOINTS (docs/llm.md)"
