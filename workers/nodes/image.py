"""The tools that paint: a step's settled inputs to pictures in the artifact store."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from app import ids
from app.artifacts.store import ArtifactStore
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Artifact
from app.domain.event import Tick
from app.domain.run import Step, Succeeded
from app.graph.nodes.tool import ToolCall
from app.graph.tools.image_tool import ImageTool
from workers.diffusion.request import Format, Image, Progress, StopRequested
from workers.nodes.again import compared
from workers.nodes.image_request import ImageRequests
from workers.nodes.ready_files import ReadyFiles
from workers.run_step import Job, NodeRun, StepHalted
from workers.studio import Studio

_KINDS: dict[Format, tuple[str, str]] = {
    "png": ("image/png", ".png"),
    "jpeg": ("image/jpeg", ".jpg"),
    "webp": ("image/webp", ".webp"),
}
_TOLD_INPUTS = ("asked_model", "painted_size", "loras")


class PaintImages:
    """Paints with the engine. The step's inputs say everything, so a second attempt paints the same picture."""

    def __init__(
        self,
        studio: Studio,
        requests: ImageRequests,
        files: ReadyFiles,
        artifacts: ArtifactStore,
        signer: UrlSigner,
    ) -> None:
        self._studio = studio
        self._requests = requests
        self._files = files
        self._artifacts = artifacts
        self._signer = signer

    def run(self, job: Job) -> NodeRun:
        pictures, told, format = self._painted(job) if "prompt" in job.inputs else self._enlarged(job)
        with job.watch.uploading():
            made = tuple(self._store(job.step, picture, format) for picture in pictures)
        told |= self._told(job, made)
        outputs = {"text": "", "files": [artifact.to_value() for artifact in made], "json": [told]}
        if again := job.arguments.get("again"):
            outputs |= compared(again, pictures[0].content, told.get("left_out", ()), self._artifacts)
        metadata = {"tool_info": dict(job.work.info)} if isinstance(job.work, ToolCall) and job.work.info else None
        return NodeRun(Succeeded(outputs, metadata=metadata), made)

    def _painted(self, job: Job) -> tuple[tuple[Image, ...], dict[str, Any], Format]:
        asked = self._requests.painting(job.inputs)
        late = self._requests.hashing.of(asked, job)
        request = self._files.of(asked, job)

        def on_progress(progress: Progress) -> None:
            late.begin()
            _tell(job, progress)

        try:
            painted = self._studio.paint(request, on_progress, job.is_halted, late.complete)
        except StopRequested:
            raise StepHalted from None
        job.watch.load_s += painted.load_s
        told = {"model": request.weights.name, "seeds": [picture.seed for picture in painted.images]}
        return painted.images, told, request.format

    def _enlarged(self, job: Job) -> tuple[tuple[Image, ...], dict[str, Any], Format]:
        request = self._files.of(self._requests.enlarging(job.inputs), job)
        try:
            picture = self._studio.enlarge(request, job.is_halted)
        except StopRequested:
            raise StepHalted from None
        return (picture,), {"upscaler": job.inputs["upscaler"]}, request.format

    def _told(self, job: Job, made: Sequence[Artifact]) -> dict[str, Any]:
        """What the step says of what it was asked for, and what could not be done."""
        told = {name: job.inputs[name] for name in _TOLD_INPUTS if name in job.inputs}
        if left_out := (*job.arguments.get("left_out", ()), *job.inputs.get("left_out", ())):
            told["left_out"] = left_out
        tool = job.work.tool if isinstance(job.work, ToolCall) else None
        if isinstance(tool, ImageTool) and tool.tells_images:
            urls = (self._signer.sign(artifact.id, artifact.extension) for artifact in made)
            told |= {"images": [{"url": url} for url in urls], "seed": job.inputs["seed"]}
        return told

    def _store(self, step: Step, picture: Image, format: Format) -> Artifact:
        artifact_id = ids.new_id()
        mime_type, extension = _KINDS[format]
        return Artifact(
            id=artifact_id,
            run_id=step.run_id,
            step_id=step.id,
            sha256=self._artifacts.put(picture.content),
            size=len(picture.content),
            mime_type=mime_type,
            extension=extension,
            filename=f"{artifact_id.replace('-', '')}{extension}",
            width=picture.width,
            height=picture.height,
            seed=picture.seed,
        )


def _tell(job: Job, progress: Progress) -> None:
    step, preview = job.step, None
    if progress.preview is not None:
        preview = "data:image/jpeg;base64," + base64.b64encode(progress.preview).decode()
    job.tick(Tick(step.run_id, step.id, step.node_id, progress.step, progress.steps, progress.eta_s, preview))
