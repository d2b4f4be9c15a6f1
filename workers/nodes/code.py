"""`code`: the node's code over the step's inputs, in the sandbox."""

from __future__ import annotations

from app.domain.run import Succeeded
from app.errors import NodeFailed
from app.graph.nodes.code import Code
from app.graph.nodes.code_outputs import OutputLimits
from app.settings import Settings
from workers.code_sandbox.sandbox import Halted, Limits, Sandbox
from workers.run_step import Job, NodeRun, StepHalted


class RunCode:
    def __init__(self, settings: Settings) -> None:
        self._sandbox = Sandbox(Limits(settings.code_timeout_s, settings.code_memory_mb, settings.code_answer_mb))
        self._limits = OutputLimits(
            string_length=settings.code_max_string_length,
            string_array_length=settings.code_max_string_array_length,
            object_array_length=settings.code_max_object_array_length,
            number_array_length=settings.code_max_number_array_length,
            precision=settings.code_max_precision,
            depth=settings.code_max_depth,
        )

    def run(self, job: Job) -> NodeRun:
        if not isinstance(job.work, Code):
            raise NodeFailed(f"The node '{job.step.node_id}' has no code.")
        try:
            answer = self._sandbox.run(job.work.language, job.work.code, job.inputs, job.is_halted)
        except Halted:
            raise StepHalted from None
        return NodeRun(Succeeded(job.work.outputs_of(answer, self._limits)))
