"""Paints with the engine in this process what a call of our tools asks for: settled, looked up and read as anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.artifacts.disk import DiskArtifacts
from app.checkpoints.catalogue import SHIPPED_FOLDER, Catalogue
from app.domain.artifact import MARK
from app.graph.nodes.kind import WorkerCall
from app.graph.tools.again import AGAIN
from app.graph.tools.image_tools import OWN_IMAGE_TOOLS
from app.runs.settle import SettleImages
from workers.diffusion.engine import Engine
from workers.diffusion.request import Image, Progress
from workers.nodes.image_request import ImageRequests

Heard = Callable[[Progress], None]
_TOOLS = {tool.name: tool for tool in (*OWN_IMAGE_TOOLS, AGAIN)}


_JOB: Any = SimpleNamespace(alive=lambda: None, is_halted=lambda: False)  # that nobody waits for, and nobody stops


def _unheard(progress: Progress) -> None:
    pass


class Studio:
    """`folder` may have LoRAs and the like in it; without a name the checkpoint that ships paints."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        catalogue = Catalogue([folder, SHIPPED_FOLDER])
        self._engine = engine
        self._artifacts = DiskArtifacts(folder / "artifacts", 3600)
        self._settle = SettleImages(catalogue, {})
        self._requests = ImageRequests(catalogue, self._artifacts)

    def file(self, content: bytes) -> dict[str, Any]:
        """A PNG as a workflow's value."""
        told = {"filename": "picture.png", "extension": ".png", "mime_type": "image/png", "size": len(content)}
        return {MARK: "01a1fd65-0000-7000-8000-000000000000", **told, "sha256": self._artifacts.put(content)}

    def paint(
        self, tool: str, on_progress: Callable[[Progress], None] = lambda progress: None, **arguments: Any
    ) -> list[Image]:
        """Raises InvalidParam, and what the engine raises."""
        asked = _TOOLS[tool].call(arguments)
        return self.work(WorkerCall("gpu", asked.inputs, asked.arguments), on_progress)

    def work(self, call: WorkerCall, on_progress: Heard = _unheard) -> list[Image]:
        inputs = self._settle(call).inputs
        if "prompt" not in inputs:
            return [self._engine.enlarge(self._requests.enlarging(inputs))]
        request = self._requests.painting(inputs)
        complete = self._requests.hashing.of(request, _JOB).complete
        return list(self._engine.paint(request, on_progress, complete=complete).images)
