"""How brackets in a prompt are read."""

import pytest

from app.errors import NodeFailed
from workers.diffusion.prompts.attention import Passage, passages


def read(prompt: str) -> list[list[tuple[str, float]]]:
    return [[(each.text, round(each.weight, 4)) for each in part] for part in passages(prompt)]


@pytest.mark.parametrize(
    ("prompt", "passages"),
    [
        ("a cat", [("a cat", 1)]),
        ("a (cat) sleeps", [("a ", 1), ("cat", 1.1), (" sleeps", 1)]),
        ("a ((cat))", [("a ", 1), ("cat", 1.21)]),
        ("a [cat]", [("a ", 1), ("cat", 0.9091)]),
        ("a (cat:1.3)", [("a ", 1), ("cat", 1.3)]),
        ("a (cat :  .5 )", [("a ", 1), ("cat ", 0.5)]),
        ("(a (big:1.5) cat:2)", [("a ", 2), ("big", 3), (" cat", 2)]),
        ("([a])", [("a", 1)]),
        ("a (cat:-1)", [("a ", 1), ("cat", -1)]),
        (r"a \(cat\) \[x\] \\", [("a (cat) [x] \\", 1)]),
        (r"a \cat", [("a cat", 1)]),
        ("a (cat", [("a ", 1), ("cat", 1.1)]),
        ("a [cat", [("a ", 1), ("cat", 0.9091)]),
        ("a cat) of 3:2]", [("a cat) of 3:2]", 1)]),
        ("a cat:1.2)", [("a cat:1.2)", 1)]),
        ("a (cat:1.2.3)", [("a ", 1), ("cat:1.2.3", 1.1)]),
        ("a (cat:very)", [("a ", 1), ("cat:very", 1.1)]),
        ("[cat:1.2]", [("cat:1.2", 0.9091)]),
        ("()", []),
        ("", []),
    ],
)
def test_brackets_weigh_what_they_enclose(prompt, passages):
    assert read(prompt) == [passages]


def test_break_parts_a_prompt_also_within_brackets():
    assert read("a cat BREAK a dog") == [[("a cat", 1)], [("a dog", 1)]]
    assert read("(a cat BREAK a dog:1.2)") == [[("a cat", 1.2)], [("a dog", 1.2)]]
    assert read("BREAK") == [[], []]
    assert read("a BREAKING BREAKfast") == [[("a BREAKING BREAKfast", 1)]]


def test_blanks_around_a_break_are_none_of_the_prompt():
    assert read("a \n BREAK\t\u3000 BREAK b ") == [[("a", 1)], [], [("b ", 1)]]
    assert read(" a  b ") == [[(" a  b ", 1)]]


@pytest.mark.timeout(20)  # it was a minute, and everybody else's pictures waited
def test_a_prompt_of_nothing_but_blanks_is_read_at_once():
    assert read(" " * 32_000) == [[(" " * 32_000, 1)]]


def test_neighbours_of_one_weight_are_one_passage():
    assert passages(r"a \(big cat\)") == [[Passage("a (big cat)")]]


@pytest.mark.parametrize(
    "prompt", ["(cat:" + "9" * 400 + ")", "(((cat:99):99):99)", "(cat:-100001)", "(" * 150 + "a:99"]
)
def test_a_weight_beyond_measure_is_refused(prompt):
    with pytest.raises(NodeFailed) as caught:
        passages(prompt)
    assert caught.value.error_type == "InvalidParam"


def test_brackets_may_not_nest_without_end():
    assert passages("(" * 100 + "a" + ")" * 100 + "(b)" * 200)[0][1].text == "b" * 200
    with pytest.raises(NodeFailed, match="nest too deeply") as refused:
        passages("(a" * 101)
    assert refused.value.error_type == "InvalidParam"
