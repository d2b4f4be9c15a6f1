"""Forms that paused runs wait for. A form's row is changed only by who holds its run's lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from app.domain.form import Form, FormStatus, NewForm
from app.domain.run import Run
from app.store.engine import Row, Tx
from app.store.rows import from_json, to_json
from app.store.schema import forms, now_s

_WAITING = FormStatus.WAITING.value
_COLUMNS = tuple(forms.c[name] for name in Form.__struct_fields__)
_NEW = ("id", "token", "app_id", "run_id", "step_id", "node_id", "definition", "status")
_insert = insert(forms).values(
    {name: bindparam(name) for name in _NEW} | {"created_at": now_s(), "expires_at": now_s() + bindparam("timeout_s")}
)
_by_token = select(*_COLUMNS).where(forms.c.token == bindparam("of_token"))
_is_waiting = forms.c.status == _WAITING
_expired = select(*_COLUMNS).where(_is_waiting, forms.c.expires_at < now_s()).limit(50)
_fill = (
    update(forms)
    .where(forms.c.id == bindparam("form_id"), _is_waiting)
    .values(
        status=FormStatus.SUBMITTED.value,
        filled=bindparam("new_filled"),
        filled_by=bindparam("new_filled_by"),
        filled_at=now_s(),
    )
)
_expire = update(forms).where(forms.c.id == bindparam("form_id"), _is_waiting).values(status=FormStatus.EXPIRED.value)
_close = update(forms).where(forms.c.run_id == bindparam("of_run"), _is_waiting)
_close = _close.values(status=FormStatus.EXPIRED.value)


def insert_forms(tx: Tx, run: Run, new: Iterable[NewForm]) -> None:
    for form in new:
        row = {name: getattr(form, name) for name in ("id", "token", "step_id", "node_id", "timeout_s")}
        row |= {"app_id": run.app_id, "run_id": run.id, "definition": to_json(form.definition), "status": _WAITING}
        tx.put(_insert, row)


def find_form(tx: Tx, token: str) -> Form | None:
    row = tx.row(_by_token, {"of_token": token})
    return _form_from(row) if row else None


def expired_forms(tx: Tx) -> list[Form]:
    """Forms that nobody has filled in in time, by the database's clock."""
    return [_form_from(row) for row in tx.rows(_expired)]


def mark_submitted(tx: Tx, form: Form, filled: Mapping[str, Any], by: str) -> bool:
    """False when it waits no more: somebody else was first, or it has expired."""
    return tx.run(_fill, {"form_id": form.id, "new_filled": to_json(filled), "new_filled_by": by}) > 0


def mark_expired(tx: Tx, form: Form) -> bool:
    """False when it waits no more."""
    return tx.run(_expire, {"form_id": form.id}) > 0


def close_forms(tx: Tx, run_id: str) -> None:
    """The run has ended: what it still waited for nobody needs to fill in."""
    tx.run(_close, {"of_run": run_id})


def _form_from(row: Row) -> Form:
    named = dict(zip(Form.__struct_fields__, row, strict=True))
    named["definition"], named["status"] = from_json(named["definition"]), FormStatus(named["status"])
    return Form(**named)
