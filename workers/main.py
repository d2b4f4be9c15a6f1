"""The worker process, started by a `LeaseKeeper` as its child; the only module that wires it.

python -m workers.main PIPE_DESCRIPTOR WORKER_ID CLASS
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from app.artifacts.store import open_artifacts
from app.artifacts.urls import open_signer
from app.checkpoints.catalogue import Catalogue, open_catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.conversion import Conversions
from app.errors import AtelierError
from app.logs import set_up_logs
from app.runs.advance import Advance
from app.runs.publications import Publications
from app.runs.service import Announcer
from app.runs.settle import SettleImages
from app.settings import Settings
from app.store.store import Store
from workers.child import parent_connection
from workers.diffusion.request import Limits, Tuning
from workers.drain import Drain
from workers.lanes import Lanes
from workers.link import Ready, WorkerSide
from workers.memory import Memory, NoMemory
from workers.nodes.image import PaintImages
from workers.nodes.image_request import ImageRequests, weights_of
from workers.nodes.image_tool import CallImageTool
from workers.nodes.keep_checkpoint import Housing, KeepCheckpoint
from workers.nodes.ready_files import ReadyFiles
from workers.run_step import StepRunner, WorkerNode
from workers.studio import Studio

if TYPE_CHECKING:
    from workers.diffusion.engine import Engine

logger = logging.getLogger(__name__)


def main(descriptor: int, worker_id: str, work_class: str) -> None:
    connection = parent_connection(descriptor)
    settings = Settings.model_validate_json(connection.recv_bytes())
    set_up_logs("worker", settings.log_level, settings.log_format, worker_id)
    link = WorkerSide(connection)
    threading.Thread(target=_until_parent_goes, args=(link,), name="hints", daemon=True).start()
    catalogue = open_catalogue(settings)
    store = Store(settings)
    publications = Publications(store)
    artifacts = open_artifacts(settings)
    memory: Memory
    if work_class == "gpu":
        studio = Studio(_engine(settings, catalogue), catalogue)
        requests, files = ImageRequests(catalogue, artifacts), ReadyFiles(Conversions(settings.converted_dir))
        paint = PaintImages(studio, requests, files, artifacts, open_signer(settings))
        keep = KeepCheckpoint(studio, requests, files, Housing(store, link, worker_id))
        nodes: dict[str, WorkerNode] = {"tool": CallImageTool(paint, keep)}
        link.unload = partial(_aside, studio.dismiss)
        memory, lanes = studio, Lanes(settings.gpu_lanes, settings.max_attempts)
    else:
        from workers.nodes.cpu import cpu_nodes  # noqa: PLC0415 - what the first picture would wait for

        nodes = cpu_nodes(settings, artifacts)
        memory, lanes = NoMemory(), Lanes(settings.cpu_lanes, settings.max_attempts)
    settle = SettleImages(catalogue, settings.checkpoint_names)
    advance = Advance(publications.graph_of, settle, settings, publications.find_app)
    runner = StepRunner(store, publications, advance, Announcer(link, link), link, nodes)
    link.tell(Ready())
    Drain(store, runner, link, worker_id, settings).serve(work_class, lanes, memory)
    os._exit(0)


def _engine(settings: Settings, catalogue: Catalogue) -> Engine:
    """The engine, with what a request without a name gets in memory: the first picture waits for no loading."""
    from workers.diffusion.engine import Engine  # noqa: PLC0415 - a worker of the cpu class needs no torch

    pinned = catalogue.pinned(settings.pinned_checkpoints)
    keep_s = settings.keep_alive_s if settings.keep_alive_s >= 0 else None
    limits = Limits(settings.memory_budget_mb * 2**20, keep_s, frozenset(pinned))
    tuning = Tuning(settings.precision, frozenset(settings.gpu_without))
    engine = Engine(settings.device or None, settings.torch_threads, limits, tuning)
    warm = partial(_warm, engine, catalogue, ReadyFiles(Conversions(settings.converted_dir)))
    warm(catalogue.default)
    finds = [partial(catalogue.get, name) for name in pinned]
    threading.Thread(target=warm, args=finds, name="warming", daemon=True).start()
    return engine


def _warm(engine: Engine, catalogue: Catalogue, files: ReadyFiles, *finds: Callable[[], Checkpoint]) -> None:
    for find in finds:
        try:
            engine.warm(files.weights(weights_of(find(), catalogue)))
        except AtelierError as error:
            logger.warning("a checkpoint is not warm", extra={"action": "warm_failed", "error": error.message})


def _aside(work: Callable[[str], None], name: str) -> None:
    """The engine may be at a turn for a while; whoever asks listens to the parent and can't wait."""
    threading.Thread(target=work, args=(name,), daemon=True).start()


def _until_parent_goes(link: WorkerSide) -> None:
    link.listen()
    # Whatever this process holds, the next server gives back. There is nothing to tidy that a kill would not leave.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
