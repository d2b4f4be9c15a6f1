"""`template-transform` over values too large for the web process: the same rendering, in a `cpu` worker."""

from __future__ import annotations

from app.domain.run import Succeeded
from app.errors import NodeFailed
from app.graph.nodes.template_transform import TemplateTransform
from workers.run_step import Job, NodeRun


class RenderTemplate:
    """Renders the node of the run's own workflow version over the step's inputs."""

    def run(self, job: Job) -> NodeRun:
        if not isinstance(job.work, TemplateTransform):
            raise NodeFailed(f"The node '{job.step.node_id}' is no template.")
        return NodeRun(Succeeded({"output": job.work.render(job.inputs)}))
