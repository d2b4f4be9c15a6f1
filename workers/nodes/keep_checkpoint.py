"""The tool that paints nothing: it has a checkpoint loaded, or taken out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable

from app import clock
from app.domain.resident import Resident
from app.domain.run import Succeeded
from app.graph.nodes.tool import ToolCall
from app.store import residents
from app.store.residents import Housed
from app.store.store import Store
from workers.diffusion.request import StopRequested
from workers.link import WorkerSide
from workers.memory import is_close
from workers.nodes.image_request import ImageRequests
from workers.nodes.ready_files import ReadyFiles
from workers.run_step import Job, NodeRun, StepHalted
from workers.studio import Studio

_LOOK_S = 0.05
_LOOK_ELSEWHERE_S = 0.2
_ASK_AGAIN_S = 3.0
_OTHERS_S = 30.0  # what is painted elsewhere with a checkpoint may take longer than anybody wants to wait for it
_TOLD_S = 3.0  # a worker whose lanes are all busy tells what it has when one is free


class Housing:
    """What all workers can know of each other's memories, as one of them sees it. Raises Unavailable."""

    def __init__(self, store: Store, link: WorkerSide, worker_id: str) -> None:
        self._store = store
        self._link = link
        self._worker_id = worker_id

    def have_told(self, checkpoint: str, resident: Resident | None) -> bool:
        """Whether all can know that it is in memory here, and for how long yet, or that it is not.

        What is new is told soon after this has been asked.
        """
        known = next((each for each in self._who_has(checkpoint) if each.worker_id == self._worker_id), None)
        self._link.look_again()
        if known is None or resident is None:
            return (known is None) == (resident is None)
        return is_close(resident.stays_s, known.resident.stays_s)

    def others(self, checkpoint: str) -> bool:
        """Whether another worker has it in memory."""
        return any(each.worker_id != self._worker_id for each in self._who_has(checkpoint))

    def dismiss_elsewhere(self, checkpoint: str) -> None:
        """Every other worker is to let go of it as soon as nobody is painted with it."""
        self._store.commit_blocking(lambda tx: residents.dismiss(tx, checkpoint, self._worker_id), lasting=False)

    def _who_has(self, checkpoint: str) -> list[Housed]:
        return self._store.read_blocking(lambda tx: residents.who_has(tx, checkpoint))


class KeepCheckpoint:
    """Loads a checkpoint unless it is there, in this worker; with 0 to stay it leaves every worker."""

    def __init__(self, studio: Studio, requests: ImageRequests, files: ReadyFiles, housing: Housing) -> None:
        self._studio = studio
        self._requests = requests
        self._files = files
        self._housing = housing

    def run(self, job: Job) -> NodeRun:
        name, leaves = job.inputs["model_name"], job.inputs.get("keep_alive_s") == 0
        load_s = 0.0 if leaves else self._load(job)
        is_elsewhere = leaves and self._unload(job, name)
        self._until(job, lambda: self._housing.have_told(name, self._studio.resident(name)), _LOOK_S, _TOLD_S)
        told = {"resident": is_elsewhere or self._studio.has(name), "load_s": round(load_s, 3)}
        outputs = {"text": "", "files": [], "json": [{"model": name, **told}], **told}
        metadata = {"tool_info": dict(job.work.info)} if isinstance(job.work, ToolCall) and job.work.info else None
        return NodeRun(Succeeded(outputs, metadata=metadata))

    def _load(self, job: Job) -> float:
        request = self._files.of(self._requests.loading(job.inputs), job)
        try:
            load_s = self._studio.load(request, job.is_halted)
        except StopRequested:
            raise StepHalted from None
        job.watch.load_s += load_s
        return load_s

    def _unload(self, job: Job, name: str) -> bool:
        """When nobody is painted with it here any more, and for a while elsewhere; True when another still has it."""
        asked_s = -_ASK_AGAIN_S

        def is_gone_elsewhere() -> bool:
            nonlocal asked_s
            has_gone = not self._housing.others(name)
            if not has_gone and clock.monotonic() - asked_s >= _ASK_AGAIN_S:
                asked_s = clock.monotonic()
                self._housing.dismiss_elsewhere(name)
            return has_gone

        self._studio.dismiss(name)
        is_gone_elsewhere()  # the others need not wait for what is painted here
        self._until(job, lambda: not self._studio.is_leaving(name), _LOOK_S)
        return not self._until(job, is_gone_elsewhere, _LOOK_ELSEWHERE_S, _OTHERS_S)

    @staticmethod
    def _until(job: Job, holds: Callable[[], bool], look_s: float, most_s: float | None = None) -> bool:
        """Waits until it does, with signs of life; False when it does not in time. Raises StepHalted."""
        began_s = clock.monotonic()
        while not holds():
            if job.is_halted():
                raise StepHalted
            if most_s is not None and clock.monotonic() - began_s >= most_s:
                return False
            job.alive()
            time.sleep(look_s)
        return True
