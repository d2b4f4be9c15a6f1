"""Which models of a document nobody answers for, and how to change that."""

from __future__ import annotations

from collections.abc import Iterator

from app.errors import Problem
from app.graph.graph import Graph
from app.graph.nodes.kind import NodeKind, problem_of
from app.graph.nodes.llm import Llm
from app.graph.nodes.parameter_extractor import ParameterExtractor
from app.graph.nodes.prompts import Model
from app.graph.nodes.question_classifier import QuestionClassifier
from app.settings import Settings


def unanswered_models(graph: Graph, settings: Settings) -> Iterator[Problem]:
    """A sentence for each node whose model has no endpoint in these settings, though it needs one."""
    for body in (graph, *graph.bodies.values()):
        for node in body.nodes.values():
            model = _needed_model(node.work)
            if model is not None and settings.llm_endpoint(model.provider, model.name) is None:
                yield problem_of(node.id, node.title, no_endpoint(model.provider, model.name))


def no_endpoint(provider: str, model: str) -> str:
    """What is missing, and what to set."""
    key = provider.rpartition("/")[2] or "default"
    return (
        f"No endpoint is configured for the model '{model}' of the provider '{provider}'. Set ATELIER_LLM_ENDPOINTS, "
        f'for instance to {{"{key}": {{"url": "https://host/v1", "api_key": "…"}}}} or, for every model, to '
        '{"default": {"url": "http://localhost:11434/v1", "model": "name"}}.'
    )


def _needed_model(work: NodeKind) -> Model | None:
    if isinstance(work, Llm):
        return work.model if work.needs_endpoint else None
    return work.model if isinstance(work, ParameterExtractor | QuestionClassifier) else None
