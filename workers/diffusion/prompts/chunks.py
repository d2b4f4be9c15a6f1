"""Passages → chunks of 75 tokens: a text encoder reads 77 at once, and two of them are the marks of start and end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from transformers import CLIPTokenizer

from app.errors import NodeFailed
from workers.diffusion.checkpoint.tokenizer import LENGTH, clean
from workers.diffusion.prompts.attention import Passage
from workers.diffusion.prompts.inversions import Inversion

ROOM = LENGTH - 2
COUNTS = (1, 2, 3, 4, 6, 8, 12, 24)  # chunks that a prompt may have
MOST = COUNTS[-1]
BACK = 20  # tokens that follow a comma this near to a chunk's end go into the next chunk with their phrase


class Place(NamedTuple):
    """One of a chunk's tokens; or, where `inversion` is given, the vector in its row `row`."""

    token: int
    weight: float
    inversion: Inversion | None = None
    row: int = 0


Chunk = list[Place]


def chunks(parts: Sequence[Sequence[Passage]], tokenizer: CLIPTokenizer, words: Mapping[str, Inversion]) -> list[Chunk]:
    """Each part's tokens in chunks of at most 75, where `words` (casefolded) stand for vectors.

    A part between two BREAKs is a chunk, too, if nothing is in it. Empty chunks at the end make their number one of
    COUNTS: prompts of any such lengths can be repeated to the same length, which is never more than 24 chunks.
    Raises NodeFailed for a prompt that is too long.
    """
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    known = _pattern(words)
    cut: list[Chunk] = []
    for i, part in enumerate(parts):
        pieces = [piece for passage in part for piece in _pieces(passage, tokenizer, known, words)]
        if pieces or i + 1 < len(parts) or not cut:
            cut += _cut(pieces, comma)
        if len(cut) > MOST:
            said = f"The prompt is too long: at most {MOST * ROOM} tokens (about as many words) are read."
            raise NodeFailed(said, error_type="InvalidParam")
    count = next(count for count in COUNTS if count >= len(cut))
    return cut + [[] for _ in range(count - len(cut))]


def _pieces(
    passage: Passage, tokenizer: CLIPTokenizer, known: re.Pattern[str], words: Mapping[str, Inversion]
) -> Iterator[list[Place]]:
    """What may not be torn apart: a token, or all vectors of an inversion."""
    for i, text in enumerate(known.split(clean(passage.text))):
        if i % 2 and (inversion := words.get(text.casefold())):
            yield [Place(0, passage.weight, inversion, row) for row in range(inversion.rows)]
        else:
            for token in tokenizer(text, add_special_tokens=False).input_ids:
                yield [Place(token, passage.weight)]


def _pattern(words: Mapping[str, Inversion]) -> re.Pattern[str]:
    """Splits a text at its known words: every second part is one. `<word>` and `embedding:word` are it as well."""
    names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or r"(?!)"
    return re.compile(rf"(?:\bembedding:|<)?(?<!\w)({names})(?!\w)>?", re.IGNORECASE)


def _cut(pieces: Sequence[list[Place]], comma: int | None) -> list[Chunk]:
    done: list[Chunk] = []
    chunk: Chunk = []
    phrase = 0  # where in `chunk` the phrase after its last comma begins; 0: there is no comma
    for piece in pieces:
        ends_phrase = piece[0].inversion is None and piece[0].token == comma
        if len(chunk) + len(piece) > ROOM:
            moves = phrase > 0 and len(chunk) == ROOM and len(chunk) - phrase < BACK and not ends_phrase
            at = phrase if moves else len(chunk)
            done.append(chunk[:at])
            chunk, phrase = chunk[at:], 0
            if len(chunk) + len(piece) > ROOM:  # the phrase that moved leaves too little room for all these vectors
                done.append(chunk)
                chunk = []
        chunk += piece
        if ends_phrase:
            phrase = len(chunk)
    return [*done, chunk]
