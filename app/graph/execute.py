"""Running one node, and what the run's end nodes amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.graph.graph import Graph, Node
from app.graph.nodes.kind import AppCall, AskForm, Completed, WorkerCall
from app.graph.rounds import Rounds
from app.graph.variables import VariablePool

__all__ = ["AppCall", "AskForm", "Completed", "WorkerCall", "execute", "first_pool", "merge_outputs"]


def first_pool(graph: Graph, inputs: Mapping[str, Any], system: Mapping[str, Any]) -> VariablePool:
    """The pool that a run begins with: `sys`, `env`, and the checked inputs under the start node's id."""
    return VariablePool({"sys": system, "env": graph.document.environment, graph.start_id: inputs})


def execute(node: Node, pool: VariablePool) -> Completed | WorkerCall | AskForm | AppCall | Rounds:
    """Run a pure node to its end, or say what a worker must do, or what a container goes through.

    The start node's inputs and outputs are what the pool holds under its id (`first_pool`). Raises NodeFailed, or
    InvalidParam where a tool's argument is not allowed: both are the step's failure.
    """
    return node.work.execute(pool)


def merge_outputs(graph: Graph, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The run's outputs from its end nodes', given by node id in the order in which the steps completed.

    Of two values under one name the later wins, but `answer` is strung together. Other nodes' outputs are passed over,
    so that a caller may give those of every step.
    """
    merged: dict[str, Any] = {}
    for node_id, values in outputs.items():
        if node_id in graph.ends:
            answer = f"{merged['answer']}{values['answer']}" if "answer" in merged and "answer" in values else None
            merged |= values
            if answer is not None:
                merged["answer"] = answer
    return merged
