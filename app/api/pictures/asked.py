"""A request for pictures, whatever the dialect: which document, which values, which given pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from app.api.run_headers import NO_HEADERS, RunHeaders
from app.artifacts.incoming import Incoming
from app.domain.request import Caller, Dialect
from app.runs.models import Model
from app.runs.shipped import shipped

GENERATE, EDIT, VARIATION, INPAINT = "text-to-image", "image-edit", "image-variation", "inpaint"
"""The documents that ship for them."""


class GivenPicture(msgspec.Struct, frozen=True):
    """A picture that came with the request (`content`), that is to be fetched (`url`), or that is here (`file_id`).

    `field`: where the request has it, for errors.
    """

    content: Incoming | None = None
    filename: str = ""
    url: str = ""
    file_id: str = ""
    field: str = ""


class PictureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be painted. `inputs` are the document's, without its checkpoint and its files.

    `found`: the model of that name, where the dialect has looked for it already. `or_default`: where there is no such
    model the default paints. `effort`: low, medium, high, xhigh or max, which says how many of the model's own steps
    are made where the inputs say nothing of steps; empty: all of them.
    `pictures` are by the name of the document's variable. A variable of one file gets the first of them.
    """

    dialect: Dialect
    document: str
    caller: Caller
    user: str
    model: str = ""
    found: Model | None = None
    or_default: bool = False
    effort: str = ""
    inputs: Mapping[str, Any] = {}
    pictures: Mapping[str, tuple[GivenPicture, ...]] = {}
    headers: RunHeaders = NO_HEADERS
    streams: bool = False


@cache
def inputs_of(document: str) -> frozenset[str]:
    """The names that a document's start node declares."""
    return frozenset(variable.name for variable in shipped(document).graph.start.variables)
