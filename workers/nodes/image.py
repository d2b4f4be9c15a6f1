"""`text_to_image`: a step's settled inputs to pictures in the artifact store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app import ids
from app.artifacts.store import ArtifactStore
from app.artifacts.urls import UrlSigner
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.domain.artifact import Artifact
from app.domain.event import Tick
from app.domain.run import Step, Succeeded
from app.graph.nodes.tool import ToolCall
from app.graph.tools.sketch import ImageTool
from workers.diffusion.request import Image, ImageRequest, Progress, StopRequested, Weights
from workers.nodes.ready_files import ReadyFiles
from workers.run_step import Job, NodeRun, StepHalted
from workers.studio import Studio


def weights_of(checkpoint: Checkpoint, catalogue: Catalogue) -> Weights:
    """The checkpoint as the engine is asked for it."""
    return Weights(
        name=checkpoint.name,
        path=checkpoint.path,
        family=checkpoint.family or "",
        prediction=checkpoint.prediction,
        vae_path=checkpoint.vae_path,
        text_encoder_path=checkpoint.text_encoder_path,
        hash=catalogue.hash_prefix(checkpoint),
    )


class TextToImage:
    """Paints with the engine. The step's inputs say everything, so a second attempt paints the same picture."""

    def __init__(
        self, studio: Studio, catalogue: Catalogue, artifacts: ArtifactStore, signer: UrlSigner, files: ReadyFiles
    ) -> None:
        self._studio = studio
        self._files = files
        self._catalogue = catalogue
        self._artifacts = artifacts
        self._signer = signer

    def run(self, job: Job) -> NodeRun:
        step, watch = job.step, job.watch
        request = self._files.of(self._request(job.inputs), job)

        def on_progress(progress: Progress) -> None:
            job.tick(Tick(step.run_id, step.id, step.node_id, progress.step, progress.steps, progress.eta_s))

        try:
            painted = self._studio.paint(request, on_progress, job.is_halted)
        except StopRequested:
            raise StepHalted from None
        watch.load_s += painted.load_s
        with watch.uploading():
            made = tuple(self._store(step, picture) for picture in painted.images)
        told = self._told(job, request, made)
        outputs = {"text": "", "files": [artifact.to_value() for artifact in made], "json": [told]}
        metadata = {"tool_info": dict(job.work.info)} if isinstance(job.work, ToolCall) and job.work.info else None
        return NodeRun(Succeeded(outputs, metadata=metadata), made)

    def _told(self, job: Job, request: ImageRequest, made: Sequence[Artifact]) -> dict[str, Any]:
        """What the step says of how its pictures were made, and what could not be done."""
        told: dict[str, Any] = {"model": request.weights.name, "seeds": [artifact.seed for artifact in made]}
        told |= {name: job.inputs[name] for name in ("asked_model", "painted_size") if name in job.inputs}
        told |= {name: job.arguments[name] for name in ("left_out",) if name in job.arguments}
        tool = job.work.tool if isinstance(job.work, ToolCall) else None
        if isinstance(tool, ImageTool) and tool.tells_images:
            urls = (self._signer.sign(artifact.id, artifact.extension) for artifact in made)
            told |= {"images": [{"url": url} for url in urls], "seed": request.seed}
        return told

    def _request(self, inputs: Mapping[str, Any]) -> ImageRequest:
        checkpoint = self._catalogue.get(inputs["model_name"])
        size = (inputs["width"], inputs["height"])
        painted = tuple(inputs.get("painted_size") or size)
        return ImageRequest(
            weights=weights_of(checkpoint, self._catalogue),
            prompt=inputs["prompt"],
            negative_prompt=inputs.get("negative_prompt") or "",
            width=painted[0],
            height=painted[1],
            shown_size=None if painted == size else size,
            steps=inputs["steps"],
            guidance_scale=inputs["guidance_scale"],
            seed=inputs["seed"],
            n=inputs["n"],
            sampler=inputs.get("scheduler") or "dpmpp_2m",
        )

    def _store(self, step: Step, picture: Image) -> Artifact:
        artifact_id = ids.new_id()
        return Artifact(
            id=artifact_id,
            run_id=step.run_id,
            step_id=step.id,
            sha256=self._artifacts.put(picture.content),
            size=len(picture.content),
            mime_type="image/png",
            extension=".png",
            filename=f"{artifact_id.replace('-', '')}.png",
            width=picture.width,
            height=picture.height,
            seed=picture.seed,
        )
