"""Settings beyond a dialect's fields: the names of other image servers, and the documents' own."""

from __future__ import annotations

import pytest

from app.api.pictures.asked import EDIT, GENERATE
from app.api.pictures.extras import ALIASES, input_named, read_extras
from app.errors import InvalidParam


def _unknown(name: str) -> InvalidParam:
    return InvalidParam(f"unknown: {name}", params=name)


def test_a_setting_goes_by_the_names_of_other_servers_too() -> None:
    given = {"seed": 7, "num_inference_steps": 4, "cfg_scale": 5, "sampler": "euler", "negative_prompt": None}
    read = read_extras(GENERATE, given, _unknown)
    assert read == {"seed": 7, "steps": 4, "guidance_scale": 5, "scheduler": "euler"}


@pytest.mark.parametrize("name", ["strength", "nothing", "model_name", "image"])
def test_a_name_that_the_document_does_not_have_is_unknown(name: str) -> None:
    with pytest.raises(InvalidParam, match=f"unknown: {name}"):
        read_extras(GENERATE, {name: 1}, _unknown)


def test_two_names_of_one_setting_are_refused() -> None:
    with pytest.raises(InvalidParam, match="'steps' and 'num_inference_steps' are the same setting"):
        read_extras(EDIT, {"steps": 4, "num_inference_steps": 5}, _unknown)


def test_every_alias_names_an_input() -> None:
    named = {name: input_named(EDIT, name) for name in ALIASES}
    assert named == dict(ALIASES)
