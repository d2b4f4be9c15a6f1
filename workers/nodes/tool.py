"""`tool` in a worker of the `cpu` class: what needs a clock. Pictures are `image.py`'s, in a `gpu` worker."""

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
        if not isinstance(work, ToolCall) or work.tool.name not in CLOCK_TOOLS:
            raise NodeFailed(f"The tool of '{job.step.node_id}' is not in this worker.", error_type="ToolInvokeError")
        outputs = {"text": CLOCK_TOOLS[work.tool.name](job.inputs), "files": [], "json": [{"data": []}]}
        return NodeRun(Succeeded(outputs, metadata={"tool_info": dict(work.info)}))
