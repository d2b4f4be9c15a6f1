"""A model that a caller has named: a checkpoint, and what is painted with it where a request leaves it open."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(order="deterministic")


class Preset(msgspec.Struct, frozen=True):
    """One of an app's. `name` has its tag; `parent` is the model that it was made from.

    The texts are kept for those who ask for them; no picture looks different for them.
    """

    app_id: str
    name: str
    checkpoint: str
    parent: str = ""
    parameters: Mapping[str, Any] = {}
    system: str = ""
    template: str = ""
    license: tuple[str, ...] = ()
    created_at: float = 0.0
    modified_at: float = 0.0

    @property
    def folded(self) -> str:
        """The name as it is compared."""
        return self.name.lower()

    @property
    def digest(self) -> str:
        """64 hex digits: two presets that paint and say the same have the same."""
        said = (self.checkpoint, self.parameters, self.system, self.template, self.license)
        return hashlib.sha256(_encoder.encode(said)).hexdigest()
