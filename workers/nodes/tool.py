"""`tool` in a worker of the `cpu` class: what needs a clock. Pictures are `image.py`'s, in a worker of the other class."""

from __future__ import annotations

from app.domain.run import Succeeded
from app.errors import NodeFailed
from app.graph.nodes.tool import ToolCall
from workers.nodes.clock_tools import CLOCK_TOOLS
from workers.run_step import Job, NodeRun


class CallTool:
    """Does the call that the node's configuration names."""

    def run(self, job: Job) -> NodeRun:
        work = job.work
        read = CLOCK_TOOLS.get(work.tool.name) if isinstance(work, ToolCall) else None
        if read is None or not isinstance(work, ToolCall):
            raise NodeFailed(f"The tool of '{job.step.node_id}' is not in this worker.", error_type="ToolInvokeError")
        outputs = {"text": read(job.inputs), "files": [], "json": [{"data": []}]}
        return NodeRun(Succeeded(outputs, metadata={"tool_info": dict(work.info)}))
