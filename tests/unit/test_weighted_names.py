"""LoRAs and ControlNets with their weights, as people write them."""

import pytest

from app.errors import InvalidParam
from app.graph.tools.weighted import Weighted, read_weighted, split_prompt


@pytest.mark.parametrize(
    ("prompt", "plain", "loras"),
    [
        ("a cat", "a cat", []),
        ("<lora:ink:0.8>, a cat", "a cat", [Weighted("ink", 0.8)]),
        ("a cat <lora:ink>", "a cat ", [Weighted("ink")]),
        ("a <lora:my ink v2:-1> cat<lora:pixel:.5>", "a cat", [Weighted("my ink v2", -1), Weighted("pixel", 0.5)]),
        ("a cat <lora:ink:0.5:1>", "a cat ", [Weighted("ink", 1, 0.5)]),
        ("a cat <lora:ink:unet=0.7:te=0>", "a cat ", [Weighted("ink", 0.7, 0)]),
        ("1 < 2 <b> <lora:>", "1 < 2 <b> <lora:>", []),
    ],
)
def test_a_prompt_names_loras_as_in_automatic1111(prompt: str, plain: str, loras: list[Weighted]) -> None:
    assert split_prompt(prompt) == (plain, loras)


@pytest.mark.timeout(20)  # it was half a minute in which the server did nothing else
def test_tags_that_never_end_are_words() -> None:
    assert split_prompt("<lora:" * 5_333) == ("<lora:" * 5_333, [])
    assert split_prompt("<lora:a <lora:ink:1>") == ("<lora:a ", [Weighted("ink", 1)])


def test_a_list_of_names_may_have_weights() -> None:
    assert read_weighted("ink:0.8, pixel ,, <lora:fog, thick:2>", "loras") == [
        Weighted("fog, thick", 2),
        Weighted("ink", 0.8),
        Weighted("pixel"),
    ]


@pytest.mark.parametrize("text", ["ink:much", "ink:6", "ink:", "ink:nan", "<lora:ink:1e9>"])
def test_a_weight_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidParam, match=r"^loras: the weight of 'ink' must be a number from -5 to 5"):
        read_weighted(text, "loras")
