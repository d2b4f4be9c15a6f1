"""Mutant: an outcome is written whoever it comes from, the current attempt or a lost one."""

from sqlalchemy import bindparam, update

from app.store import steps
from app.store.schema import steps as table

steps._finish = (
    update(table)
    .where(table.c.run_id == bindparam("held_run"), table.c.node_id == bindparam("held_node"))
    .values({name: bindparam(f"new_{name}") for name in steps._OUTCOME} | {"lease_expires_at": None})
)
