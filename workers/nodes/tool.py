"""`tool`: pictures where there is an engine, and what needs a clock."""

from __future__ import annotations

from app.domain.run import Succeeded
from app.errors import NodeFailed
from app.graph.nodes.tool import ToolCall
from workers.nodes.clock_tools import CLOCK_TOOLS
from workers.run_step import Job, NodeRun, WorkerNode


class CallTool:
    """Does the call that the node's configuration names. `paint` is None in a worker without an engine."""

    def __init__(self, paint: WorkerNode | None) -> None:
        self._paint = paint

    def run(self, job: Job) -> NodeRun:
        work = job.work
        if not isinstance(work, ToolCall):
            raise NodeFailed(f"The node '{job.step.node_id}' is no tool.")
        if work.tool.work_class == "gpu" and self._paint:
            return self._paint.run(job)
        read = CLOCK_TOOLS.get(work.tool.name)
        if read is None:
            raise NodeFailed(f"This worker has no tool '{work.tool.name}'.", error_type="ToolInvokeError")
        outputs = {"text": read(job.inputs), "files": [], "json": [{"data": []}]}
        return NodeRun(Succeeded(outputs, metadata={"tool_info": dict(work.info)}))
