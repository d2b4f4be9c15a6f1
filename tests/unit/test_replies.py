"""What a model has said: its thinking apart, and the JSON in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.graph.replies import certain_text, find_json, find_object, without_thoughts

PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", "<", ">", "a", "\n", "\n\n", "  ", "b c", "<thinker>", "x<"])
)


@pytest.mark.parametrize(
    ("said", "text", "thoughts"),
    [
        ("plain", "plain", ""),
        ("<think>hm\n</think>\n\nyes", "yes", "hm"),
        ("<THINK a='1'>one</THINK>x<think>two</think>y", "xy", "one\ntwo"),
        ("so far <think>not done", "so far <think>not done", ""),
        ("a\n  \n\nb", "a\n\nb", ""),
        ("3 < 4", "3 < 4", ""),
    ],
)
def test_thinking_is_taken_out_of_a_text(said: str, text: str, thoughts: str) -> None:
    assert without_thoughts(said) == (text, thoughts)


@given(PIECES, st.integers(0, 40))
def test_what_is_told_of_a_growing_text_is_a_beginning_of_the_whole(pieces: list[str], length: int) -> None:
    whole = "".join(pieces)
    assert without_thoughts(whole)[0].startswith(certain_text(whole[:length]))


def test_an_open_block_is_held_back_and_nothing_else() -> None:
    assert certain_text("so far <think>not done") == certain_text("so far <thi") == "so far"
    assert certain_text("<think>hm</think>3 < 4") == "3 < 4"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('It is {"a": {"b": [1, 2]}} I think', {"a": {"b": [1, 2]}}),
        ("{'a': 1,}", {"a": 1}),
        ('{"a": "cut o', {"a": "cut o"}),
        ('<think>{"no": 1}</think>[1, 2]', [1, 2]),
        ("nothing here", None),
        ("", None),
    ],
)
def test_json_is_found_in_a_text_and_mended(text: str, found: object) -> None:
    assert find_json(text) == found


def test_a_list_of_one_object_is_that_object() -> None:
    assert find_object('[{"a": 1}]') == {"a": 1}
    assert find_object("[1]") is None
