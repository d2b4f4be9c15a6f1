"""The worker process, started by a `LeaseKeeper` as its child; the only module that wires it.

python -m workers.main PIPE_DESCRIPTOR WORKER_ID
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from app.artifacts.store import open_artifacts
from app.checkpoints.catalogue import Catalogue, open_catalogue
from app.errors import AtelierError
from app.logs import set_up_logs
from app.runs.advance import Advance
from app.runs.publications import Publications
from app.runs.service import Announcer
from app.runs.settle import SettleImages
from app.settings import Settings
from app.store.store import Store
from workers.diffusion.engine import Engine
from workers.drain import Drain
from workers.lease import parent_connection
from workers.link import Ready, WorkerSide
from workers.nodes.image import TextToImage
from workers.run_step import StepRunner

logger = logging.getLogger(__name__)


def main(descriptor: int, worker_id: str) -> None:
    connection = parent_connection(descriptor)
    settings = Settings.model_validate_json(connection.recv_bytes())
    set_up_logs("worker", settings.log_level, settings.log_format, worker_id)
    link = WorkerSide(connection)
    threading.Thread(target=_until_parent_goes, args=(link,), name="hints", daemon=True).start()
    engine = Engine(settings.device or None, settings.resident_checkpoints, settings.torch_threads)
    catalogue = open_catalogue(settings.checkpoints_dir, settings.default_checkpoint)
    _warm(engine, catalogue)
    drain = _wire(settings, engine, catalogue, link, worker_id)
    link.tell(Ready())
    drain.serve("gpu", lambda: engine.resident[-1] if engine.resident else None)


def _wire(settings: Settings, engine: Engine, catalogue: Catalogue, link: WorkerSide, worker_id: str) -> Drain:
    store = Store(settings)
    advance = Advance(Publications(store).graph_of, SettleImages(catalogue), settings)
    paint = TextToImage(engine, catalogue, open_artifacts(settings))
    runner = StepRunner(store, advance, Announcer(link, link), link, {"tool": paint})
    return Drain(store, runner, link, worker_id, settings)


def _warm(engine: Engine, catalogue: Catalogue) -> None:
    """Loads what a request without a name gets, so that the first picture waits for no loading."""
    try:
        checkpoint = catalogue.default()
        engine.warm(checkpoint.name, checkpoint.path, checkpoint.family or "")
    except AtelierError as error:
        logger.warning("no checkpoint is warm", extra={"action": "warm_failed", "error": error.message})


def _until_parent_goes(link: WorkerSide) -> None:
    link.listen()
    # Whatever this process holds, the next server gives back. There is nothing to tidy that a kill would not leave.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
