"""CLIP's words, as published, from the merges alone."""

from __future__ import annotations

import pytest

from workers.diffusion.checkpoint.tokenizer import clean, tokenizer


def test_the_vocabulary_is_clips():
    assert len(tokenizer("sd1")) == 49408
    assert tokenizer("sd1")("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_a_prompt_is_padded_and_cut_to_77_tokens():
    words = tokenizer("sd1")
    for prompt in ("a cat", "cat " * 200):
        ids = words(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        assert (len(ids), ids[0], ids[-1]) == (77, 49406, 49407)


def test_chinese_is_bytes_not_the_unknown_token():
    ids = tokenizer("sd1")("一只猫").input_ids
    assert len(ids) > 4
    assert 49407 not in ids[:-1]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a cat<|endoftext|> and a dog", "a cat and a dog"),
        ("<|startoftext|>a cat", "a cat"),
        ("a<|end<|endoftext|>oftext|> cat", "a cat"),
        ("<|end" * 2000 + "oftext|>" * 2000 + "<|startof<|endoftext|>text|>!", "!"),
        ("a <|endoftext|", "a <|endoftext|"),
        ("a \ud83dcat", "a cat"),
        ("一只猫", "一只猫"),
    ],
)
def test_what_would_end_the_prompt_early_is_taken_out(text, cleaned):
    assert clean(text) == cleaned
