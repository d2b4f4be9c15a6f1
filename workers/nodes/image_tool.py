"""`tool` in a worker of the `gpu` class: a call either makes pictures or is about a checkpoint alone."""

from __future__ import annotations

from workers.nodes.image import PaintImages
from workers.nodes.keep_checkpoint import KeepCheckpoint
from workers.run_step import Job, NodeRun


class CallImageTool:
    """The inputs say which it is."""

    def __init__(self, paint: PaintImages, keep: KeepCheckpoint) -> None:
        self._paint = paint
        self._keep = keep

    def run(self, job: Job) -> NodeRun:
        makes_pictures = "prompt" in job.inputs or "image" in job.inputs
        return self._paint.run(job) if makes_pictures else self._keep.run(job)
