"""CLIP's tokenizer without a hub: its byte-pair merges ship, and the vocabulary follows from them."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

from transformers import CLIPTokenizer

CONFIGS = Path(__file__).parent / "configs"
LENGTH = 77  # tokens that the text encoders read, the two marks included
START, END = "<|startoftext|>", "<|endoftext|>"
_CLIPS = CONFIGS / "sd1/tokenizer/merges.txt.gz"


@cache
def tokenizer(family: str, part: str = "tokenizer", configs: Path = CONFIGS) -> CLIPTokenizer:
    """The tokenizer of `family`, or the second one of SDXL. Ids are places in the vocabulary: their order is fixed.

    OpenCLIP's text encoders have the same words and fill a short prompt up with token 0, which is also that of "!".
    Given as a special token it would take the place of every "!" in a prompt; so it becomes the padding afterwards.
    """
    merges_file = configs / family / "tokenizer/merges.txt.gz"
    lines = gzip.decompress((merges_file if merges_file.is_file() else _CLIPS).read_bytes()).decode().splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines[1:])]
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    made = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, model_max_length=LENGTH)
    own = configs / family / part / "tokenizer_config.json"
    if own.is_file():
        made.pad_token = json.loads(own.read_text())["pad_token"]
    return made


def clean(text: str) -> str:
    """`text` without the marks that would end the prompt early, and without what UTF-8 can't carry.

    In one pass: a mark that the removal of another has put together is none that is left.
    """
    text = text.encode("utf-8", "ignore").decode("utf-8")
    if START not in text and END not in text:
        return text
    kept: list[str] = []
    for letter in text:
        kept.append(letter)
        for mark in (START, END):
            if letter == mark[-1] and "".join(kept[-len(mark) :]) == mark:
                del kept[-len(mark) :]
    return "".join(kept)


def _byte_letters() -> list[str]:
    """One printable letter for each byte, in GPT-2's order: printable Latin-1 first, then stand-ins for the rest."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
