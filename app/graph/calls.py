"""Calls of other apps: their workflow is the one round of the node that calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from app.domain.artifact import is_artifact
from app.errors import InvalidParam, NodeFailed
from app.graph.execute import first_pool, merge_outputs
from app.graph.files import given_files
from app.graph.graph import Graph
from app.graph.inputs import read_inputs
from app.graph.nodes.kind import AppCall, Completed
from app.graph.rounds import RoundEnd, Rounds
from app.graph.values import Value, is_file_list, plain
from app.graph.variables import VariablePool

MOST_CALLS = 5  # one inside the other


class Callee(msgspec.Struct, frozen=True):
    """The version of an app's workflow that a call runs: the app's current one when the call begins."""

    app_id: str
    workflow_id: str
    graph: Graph


class CallRounds(Rounds):
    """Raises NodeFailed for inputs that the called workflow refuses."""

    def __init__(self, call: AppCall, callee: Callee) -> None:
        super().__init__(call.inputs, 1)
        self.graph = self._graph = callee.graph
        self.pinned = {"app_id": callee.app_id, "workflow_id": callee.workflow_id}
        self._given = _checked(callee.graph, call.inputs)
        self._outputs: dict[str, Any] = {}
        self._failure: NodeFailed | None = None

    def pool(self, number: int, around: VariablePool) -> VariablePool:
        return first_pool(self._graph, self._given, {**around.values["sys"], **self.pinned})

    def end(self, number: int, ended: RoundEnd) -> None:
        super().end(number, ended)
        self._failure = ended.failure
        self._outputs = merge_outputs(self._graph, ended.pool.values)

    def outcome(self) -> Completed:
        if self._failure is not None:
            raise self._failure
        files = [file for value in self._outputs.values() for file in _files(value)]
        shown = {name: plain(value) for name, value in self._outputs.items() if not _files(value)}
        said = {"text": json.dumps(shown, ensure_ascii=False), "files": files, "json": [shown]}
        return Completed(self.inputs, {**self._outputs, **said}, metadata=self.metadata())

    def metadata(self) -> dict[str, Any]:
        info = {"provider_type": "workflow", "provider_id": self.pinned["app_id"], "plugin_unique_identifier": None}
        return {**super().metadata(), "tool_info": info}


def _checked(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The called workflow's start variables; files have been checked by the run that hands them on."""
    files = {name: value for name, value in inputs.items() if _files(value)}
    try:
        read = read_inputs(graph, inputs, placed=files)
        for named in given_files(read):
            raise InvalidParam(f"{named.variable} in input form must be a file of this run")
        return files | read
    except InvalidParam as error:
        raise NodeFailed(error.message, error_type="ToolParameterValidationError") from None


def _files(value: Value) -> list[Mapping[str, Any]]:
    if is_file_list(value):
        return list(value)
    return [value] if is_artifact(value) else []
