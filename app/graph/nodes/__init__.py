"""The node kinds, one module each. A new kind is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.graph.nodes.answer import Answer
from app.graph.nodes.assigner import Assigner
from app.graph.nodes.code import Code
from app.graph.nodes.document_extractor import DocumentExtractor
from app.graph.nodes.end import End
from app.graph.nodes.http_request import HttpRequest
from app.graph.nodes.human_input import HumanInput
from app.graph.nodes.if_else import IfElse
from app.graph.nodes.iteration import Iteration, IterationStart
from app.graph.nodes.kind import NodeKind
from app.graph.nodes.list_operator import ListOperator
from app.graph.nodes.llm import Llm
from app.graph.nodes.loop import Loop, LoopEnd, LoopStart
from app.graph.nodes.parameter_extractor import ParameterExtractor
from app.graph.nodes.question_classifier import QuestionClassifier
from app.graph.nodes.start import Start
from app.graph.nodes.template_transform import TemplateTransform
from app.graph.nodes.tool import ToolCall
from app.graph.nodes.variable_aggregator import OLD_NAME, VariableAggregator
from app.graph.nodes.workflow_tool import WorkflowTool

_ALL: tuple[type[NodeKind], ...] = (
    Start,
    End,
    Answer,
    TemplateTransform,
    IfElse,
    VariableAggregator,
    Assigner,
    ToolCall,
    Llm,
    ParameterExtractor,
    QuestionClassifier,
    Iteration,
    IterationStart,
    Loop,
    LoopStart,
    LoopEnd,
    HumanInput,
    HttpRequest,
    Code,
    ListOperator,
    DocumentExtractor,
)

KINDS: Mapping[str, type[NodeKind]] = {kind.kind: kind for kind in _ALL} | {OLD_NAME: VariableAggregator}


def kind_of(entries: Mapping[str, Any]) -> type[NodeKind] | None:
    """The kind that a node's `data` name; a tool that is a workflow is one of its own."""
    if entries["type"] == WorkflowTool.kind and entries.get("provider_type") == "workflow":
        return WorkflowTool
    return KINDS.get(str(entries["type"]))
