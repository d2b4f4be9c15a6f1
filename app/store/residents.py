"""Which checkpoints the workers have in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from app.domain.resident import Resident
from app.domain.run import StepStatus
from app.store.engine import Tx
from app.store.schema import now_s, residents, steps

_forget = delete(residents).where(residents.c.worker_id == bindparam("of_worker"))
_forget_all = delete(residents)
_add = insert(residents).values(
    worker_id=bindparam("of_worker"),
    checkpoint=bindparam("name"),
    size=bindparam("bytes"),
    vram_size=bindparam("on_gpu"),
    loaded_at=now_s() - bindparam("age_s"),
    expires_at=now_s() + bindparam("left_s"),
)
_all = select(
    residents.c.worker_id,
    residents.c.checkpoint,
    residents.c.size,
    residents.c.vram_size,
    now_s() - residents.c.loaded_at,
    residents.c.expires_at - now_s(),
).order_by(residents.c.checkpoint, residents.c.loaded_at)

# An end before all time: the worker's parent finds it, and has the worker let go of the checkpoint.
_DISMISSED = 0.0
_dismiss = (
    update(residents)
    .where(residents.c.checkpoint == bindparam("of_checkpoint"), residents.c.worker_id != bindparam("but_for"))
    .values(expires_at=_DISMISSED)
)
_of_worker_dismissed = residents.c.worker_id == bindparam("of_worker"), residents.c.expires_at == _DISMISSED
_dismissed = select(residents.c.checkpoint).where(*_of_worker_dismissed)
_heard = update(residents).where(*_of_worker_dismissed).values(expires_at=now_s())
_who_has = _all.where(residents.c.checkpoint == bindparam("of_checkpoint"))
_silent = select(steps.c.worker_id).where(
    steps.c.status == StepStatus.RUNNING.value, steps.c.lease_expires_at < now_s()
)
_forget_silent = delete(residents).where(residents.c.worker_id.in_(_silent))


class Housed(msgspec.Struct, frozen=True):
    """A checkpoint in the memory of a worker."""

    worker_id: str
    resident: Resident


def replace_residents(tx: Tx, worker_id: str, held: Iterable[Resident]) -> None:
    """From now on the worker has these in memory, and nothing else."""
    forget_residents(tx, worker_id)
    for each in held:
        values = {"name": each.checkpoint, "bytes": each.size, "on_gpu": each.vram_size}
        tx.put(_add, values | {"of_worker": worker_id, "age_s": each.age_s, "left_s": each.left_s})


def forget_residents(tx: Tx, worker_id: str | None = None) -> None:
    """The worker is gone, and its memory with it; without one, all are."""
    if worker_id is None:
        tx.put(_forget_all, {})
    else:
        tx.put(_forget, {"of_worker": worker_id})


def forget_silent(tx: Tx) -> None:
    """Nobody is to wait for a worker that has let a lease run out."""
    tx.put(_forget_silent, {})


def dismiss(tx: Tx, checkpoint: str, worker_id: str = "") -> None:
    """Asks every worker but `worker_id` that has the checkpoint in memory to let go of it.

    One that tells anew what it has at that moment does not hear of it: whoever wants it gone looks again.
    """
    tx.put(_dismiss, {"of_checkpoint": checkpoint, "but_for": worker_id})


def dismissed(tx: Tx, worker_id: str) -> list[str]:
    """The checkpoints that the worker has been asked to let go of."""
    return [row[0] for row in tx.rows(_dismissed, {"of_worker": worker_id})]


def heard(tx: Tx, worker_id: str) -> None:
    """The worker has been told what it is to let go of: it need not be told again."""
    tx.put(_heard, {"of_worker": worker_id})


def who_has(tx: Tx, checkpoint: str) -> list[Housed]:
    """The workers that have the checkpoint in memory, the one that has had it for the longest first."""
    return [_housed(row) for row in tx.rows(_who_has, {"of_checkpoint": checkpoint})]


def list_residents(tx: Tx) -> list[Housed]:
    """What is in memory anywhere, by name; of one name, the one that has been there the longest first."""
    return [_housed(row) for row in tx.rows(_all)]


def _housed(row: Sequence[Any]) -> Housed:
    worker_id, name, size, vram_size, age_s, left_s = row
    return Housed(worker_id, Resident(name, size, vram_size, age_s, None if left_s is None else max(0.0, left_s)))
