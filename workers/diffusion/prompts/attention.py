"""Brackets and weights in a prompt.

    (word)        times 1.1          (word:1.3)    times 1.3
    [word]        through 1.1        \\( \\) \\[ \\] \\\\   the signs themselves
    BREAK         what follows begins a new chunk

Brackets nest, and their weights multiply. One that is never closed reaches to the end; one that closes nothing is
text. All this is as AUTOMATIC1111's web UI reads it, so that a prompt from there paints what it painted there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import NodeFailed

STRESS = 1.1
DEEPEST = 100  # brackets that are open at once
HEAVIEST = 100_000

_SIGN = re.compile(
    r"""
    \\ (?P<escaped> [()\[\]\\]? )
    | (?P<weighed> : \s* (?P<weight> [+-]? (?: \d+ (?: \. \d* )? | \. \d+ ) ) \s* \) )
    | (?P<bracket> [()\[\]] )
    | (?P<text> [^\\()\[\]:]+ | : )
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    weight: float = 1.0


def passages(prompt: str) -> list[list[Passage]]:
    """The prompt's parts, as BREAK separates them; in each, passages whose neighbours have another weight.

    Raises NodeFailed where brackets nest too deeply, or weights know no measure.
    """
    parts: list[list[Passage]] = [[]]
    for text, weight in _Reading().read(prompt):
        if text is None:
            parts.append([])
        elif parts[-1] and parts[-1][-1].weight == weight:
            parts[-1][-1] = Passage(parts[-1][-1].text + text, weight)
        elif text:
            parts[-1].append(Passage(text, weight))
    return parts


class _Reading:
    """Texts so far with their weights, None for each BREAK; and for each open bracket, with which text it begins."""

    def __init__(self) -> None:
        self._texts: list[str | None] = []
        self._weights: list[float] = []
        self._round: list[int] = []
        self._square: list[int] = []

    def read(self, prompt: str) -> Iterator[tuple[str | None, float]]:
        for sign in _SIGN.finditer(prompt):
            if sign["bracket"]:
                self._bracket(sign["bracket"])
            elif sign["weighed"] and self._round:
                self._weigh(self._round.pop(), float(sign["weight"]))
            elif sign["escaped"] is not None:
                self._add(sign["escaped"])
            else:
                self._text(sign[0])
        for begin in self._round:
            self._weigh(begin, STRESS)
        for begin in self._square:
            self._weigh(begin, 1 / STRESS)
        return zip(self._texts, self._weights, strict=True)

    def _bracket(self, sign: str) -> None:
        if sign in "([":
            (self._round if sign == "(" else self._square).append(len(self._texts))
            if len(self._round) + len(self._square) > DEEPEST:
                said = f"The prompt's brackets nest too deeply: at most {DEEPEST} may be open at once."
                raise NodeFailed(said, error_type="InvalidParam")
        elif sign == ")" and self._round:
            self._weigh(self._round.pop(), STRESS)
        elif sign == "]" and self._square:
            self._weigh(self._square.pop(), 1 / STRESS)
        else:
            self._text(sign)

    def _text(self, text: str) -> None:
        """Blanks around a BREAK are none of the prompt. A pattern would look for them behind every blank."""
        first, *others = _BREAK.split(text)
        self._add(first.rstrip() if others else first)
        for i, each in enumerate(others, start=1):
            self._add(None)
            self._add(each.strip() if i < len(others) else each.lstrip())

    def _add(self, text: str | None) -> None:
        self._texts.append(text)
        self._weights.append(1.0)

    def _weigh(self, begin: int, weight: float) -> None:
        for i in range(begin, len(self._weights)):
            self._weights[i] *= weight
            if abs(self._weights[i]) > HEAVIEST:
                said = f"The prompt weighs some of its words more than {HEAVIEST:,} times, which leaves no numbers."
                raise NodeFailed(said, error_type="InvalidParam")
