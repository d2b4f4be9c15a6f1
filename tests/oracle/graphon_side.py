"""graphon, Dify's engine, as a child process: a batch of runs a line in, what came of them a line out.

    PYTHON_WITH_GRAPHON tests/oracle/graphon_side.py

It imports nothing of Atelier, and of graphon only the kinds that need no service. In, for each run: `graph` (a
document's nodes and edges) and `inputs`; with `timed`, only `seconds` and `cpu_seconds` come back. Out: `status`,
`outputs`, `error`, what was `said` as (selector, text), and of each node that ran its `status`, `outputs`, `handle` and
`error`; or `refused`, when graphon does not take the graph.
"""

import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jinja2
from graphon.entities.graph_init_params import GraphInitParams
from graphon.graph.graph import Graph
from graphon.graph_engine.command_channels.in_memory_channel import InMemoryChannel
from graphon.graph_engine.config import GraphEngineConfig
from graphon.graph_engine.filters.base import GraphEventFilterContext
from graphon.graph_engine.filters.chain import filter_graph_events
from graphon.graph_engine.filters.response_stream import ResponseStreamFilter
from graphon.graph_engine.graph_engine import GraphEngine
from graphon.graph_events.graph import (
    GraphRunFailedEvent,
    GraphRunPartialSucceededEvent,
    GraphRunSucceededEvent,
)
from graphon.graph_events.node import (
    NodeRunExceptionEvent,
    NodeRunFailedEvent,
    NodeRunStreamChunkEvent,
    NodeRunSucceededEvent,
)
from graphon.nodes.answer.answer_node import AnswerNode
from graphon.nodes.end.end_node import EndNode
from graphon.nodes.if_else.if_else_node import IfElseNode
from graphon.nodes.iteration.iteration_node import IterationNode
from graphon.nodes.iteration.iteration_start_node import IterationStartNode
from graphon.nodes.list_operator.node import ListOperatorNode
from graphon.nodes.loop.loop_end_node import LoopEndNode
from graphon.nodes.loop.loop_node import LoopNode
from graphon.nodes.loop.loop_start_node import LoopStartNode
from graphon.nodes.start.start_node import StartNode
from graphon.nodes.template_transform.template_transform_node import TemplateTransformNode
from graphon.nodes.variable_aggregator.variable_aggregator_node import VariableAggregatorNode
from graphon.nodes.variable_assigner.v1.node import VariableAssignerNode as AssignerV1
from graphon.nodes.variable_assigner.v2.node import VariableAssignerNode as AssignerV2
from graphon.runtime.graph_runtime_state import GraphRuntimeState
from graphon.runtime.variable_pool import VariablePool
from graphon.template_rendering import Jinja2TemplateRenderer, TemplateRenderError
from graphon.variables.segments import Segment

KINDS = {
    "start": StartNode,
    "end": EndNode,
    "answer": AnswerNode,
    "if-else": IfElseNode,
    "template-transform": TemplateTransformNode,
    "variable-aggregator": VariableAggregatorNode,
    "variable-assigner": VariableAggregatorNode,
    "list-operator": ListOperatorNode,
    "iteration": IterationNode,
    "iteration-start": IterationStartNode,
    "loop": LoopNode,
    "loop-start": LoopStartNode,
    "loop-end": LoopEndNode,
}
ENDS = {NodeRunSucceededEvent: "succeeded", NodeRunFailedEvent: "failed", NodeRunExceptionEvent: "exception"}


class Renderer(Jinja2TemplateRenderer):
    """Plain Jinja2, as in Dify's sandbox; each text is compiled once, which favours graphon in the benchmark."""

    def __init__(self):
        self.compiled = {}

    def render_template(self, template, variables):
        try:
            if template not in self.compiled:
                self.compiled[template] = jinja2.Template(template)
            return self.compiled[template].render(**variables)
        except Exception as error:
            raise TemplateRenderError(str(error)) from error


RENDERER = Renderer()


class Factory:
    def __init__(self, params, state):
        self.params, self.state = params, state

    def create_node(self, node_config):
        data = node_config["data"]
        payload = data if isinstance(data, dict) else data.model_dump(mode="python")
        kind = payload["type"]
        node_type = (AssignerV2 if "items" in payload else AssignerV1) if kind == "assigner" else KINDS[kind]
        more = {"jinja2_template_renderer": RENDERER} if kind == "template-transform" else {}
        return node_type(
            node_id=node_config["id"],
            data=node_type.validate_node_data(payload),
            graph_init_params=self.params,
            graph_runtime_state=self.state,
            **more,
        )


class Children:
    """Builds the engine of a container's round."""

    def build_child_engine(
        self, *, workflow_id, graph_init_params, parent_graph_runtime_state, root_node_id, variable_pool=None
    ):
        pool = parent_graph_runtime_state.variable_pool if variable_pool is None else variable_pool
        return engine_of(graph_init_params, pool, root_node_id)


def engine_of(params, pool, root_id):
    state = GraphRuntimeState(variable_pool=pool, start_at=time.time())
    state.bind_child_engine_builder(Children())
    graph = Graph.init(graph_config=params.graph_config, node_factory=Factory(params, state), root_node_id=root_id)
    return GraphEngine(
        workflow_id=params.workflow_id,
        graph=graph,
        graph_runtime_state=state,
        command_channel=InMemoryChannel(),
        config=GraphEngineConfig(),
    )


def prepare(asked):
    graph = asked["graph"]
    root_id = next(node["id"] for node in graph["nodes"] if node["data"]["type"] == "start")
    pool = VariablePool()
    for name, value in asked["inputs"].items():
        pool.add((root_id, name), value)
    return engine_of(GraphInitParams(workflow_id="w", graph_config=graph, run_context={}, call_depth=0), pool, root_id)


def answer(asked):
    try:
        engine = prepare(asked)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    told = {"status": None, "outputs": {}, "error": None, "nodes": {}, "said": []}
    try:
        speaking = filter_graph_events(
            engine.run(), context=GraphEventFilterContext.from_engine(engine), filters=[ResponseStreamFilter()]
        )
        for event in speaking:
            note(event, told)
    except Exception as error:  # graphon raises a node's failure once more at the end of the run
        told["error"] = told["error"] or str(error)
    told["outputs"] = told["outputs"] or plain(engine.graph_runtime_state.outputs)
    return told


def note(event, told):
    if isinstance(event, GraphRunSucceededEvent):
        told |= {"status": "succeeded", "outputs": plain(event.outputs)}
    elif isinstance(event, GraphRunPartialSucceededEvent):
        told |= {"status": "partial-succeeded", "outputs": plain(event.outputs)}
    elif isinstance(event, GraphRunFailedEvent):
        told |= {"status": "failed", "error": event.error}
    elif type(event) in ENDS:
        result = event.node_run_result
        step = {
            "status": ENDS[type(event)],
            "outputs": plain(result.outputs),
            "handle": result.edge_source_handle,
            "error": getattr(event, "error", None),
        }
        if not (event.in_iteration_id or event.in_loop_id):
            told["nodes"][event.node_id] = step
    elif isinstance(event, NodeRunStreamChunkEvent) and event.chunk:
        told["said"].append([list(event.selector), event.chunk])


def plain(value):
    if isinstance(value, Segment):
        return plain(value.to_object())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def timed(asked):
    """What a run takes, its graph being built: Dify builds it for each run. CPU time is the whole process's."""
    began, cpu_began = time.perf_counter(), time.process_time()
    for _ in prepare(asked).run():
        pass
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}


def one(asked):
    return timed(asked) if asked.get("timed") else answer(asked)


def main():
    logging.disable(logging.CRITICAL)
    with ThreadPoolExecutor(16) as pool:  # most of a run's time is graphon's waiting for its own threads
        for line in sys.stdin:
            told = list(pool.map(one, json.loads(line)))
            print(json.dumps(told, default=str), flush=True)


if __name__ == "__main__":
    main()
