"""CLIP's tokenizer without a hub: a family ships its byte-pair merges, and the vocabulary follows from them."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from transformers import CLIPTokenizer

CONFIGS = Path(__file__).parent / "configs"
LENGTH = 77  # tokens that the text encoders read, the two marks included
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def tokenizer(family: str) -> CLIPTokenizer:
    """The tokenizer of `family`. Ids are places in the vocabulary, so the order here is part of the weights."""
    lines = gzip.decompress((CONFIGS / family / "tokenizer/merges.txt.gz").read_bytes()).decode().splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines[1:])]
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, model_max_length=LENGTH)


def clean(text: str) -> str:
    """`text` without the marks that would end the prompt early, and without what UTF-8 can't carry."""
    text = text.encode("utf-8", "ignore").decode("utf-8")
    while START in text or END in text:  # again, for a mark that the removal of another has put together
        text = text.replace(START, "").replace(END, "")
    return text


def _byte_letters() -> list[str]:
    """One printable letter for each byte, in GPT-2's order: printable Latin-1 first, then stand-ins for the rest."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
