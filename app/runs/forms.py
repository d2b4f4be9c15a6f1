"""Forms of paused runs, as callers read and fill them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.form import Form
from app.domain.request import Caller
from app.errors import NotFound
from app.runs.advance import Advance, check_waits
from app.runs.service import Announcer
from app.store import forms
from app.store.store import Store


class Forms:
    """Opened by their tokens; a key opens only those of its own app."""

    def __init__(self, store: Store, advance: Advance, announcer: Announcer) -> None:
        self._store = store
        self._advance = advance
        self._announcer = announcer

    async def get(self, caller: Caller, token: str) -> Form:
        """A form that waits. Raises NotFound, FormSubmitted, FormExpired."""
        form = await self._of_app(caller, token)
        check_waits(form)
        return form

    async def fill(self, caller: Caller, token: str, given: Mapping[str, Any], action: str, user: str) -> None:
        """Fills it in, and the run goes on. Raises what `get` does, and InvalidFormData: then the form still waits."""
        await self._of_app(caller, token)
        notice = await self._store.commit(lambda tx: self._advance.fill_form(tx, token, given, action, user))
        self._announcer.tell(notice)

    async def _of_app(self, caller: Caller, token: str) -> Form:
        form = await self._store.read(lambda tx: forms.find_form(tx, token))
        if form is None or form.app_id != caller.app_id:
            raise NotFound("Form not found")
        return form
