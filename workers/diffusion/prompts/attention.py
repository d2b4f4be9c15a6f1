"""Brackets and weights in a prompt.

    (word)        times 1.1          (word:1.3)    times 1.3
    [word]        through 1.1        \\( \\) \\[ \\] \\\\   the signs themselves
    BREAK         what follows begins a new chunk

Brackets nest, and their weights multiply. One that is never closed reaches to the end; one that closes nothing is
text. All this is as AUTOMATIC1111's web UI reads it, so that a prompt from there paints what it painted there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

STRESS = 1.1

_SIGN = re.compile(
    r"""
    \\ (?P<escaped> [()\[\]\\]? )
    | (?P<weighed> : \s* (?P<weight> [+-]? (?: \d+ (?: \. \d* )? | \. \d+ ) ) \s* \) )
    | (?P<bracket> [()\[\]] )
    | (?P<text> [^\\()\[\]:]+ | : )
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    weight: float = 1.0


def passages(prompt: str) -> list[list[Passage]]:
    """The prompt's parts, as BREAK separates them; in each, passages whose neighbours have another weight."""
    parts: list[list[Passage]] = [[]]
    for each in _Reading().read(prompt):
        if each is None:
            parts.append([])
        elif parts[-1] and parts[-1][-1].weight == each.weight:
            parts[-1][-1] = replace(each, text=parts[-1][-1].text + each.text)
        elif each.text:
            parts[-1].append(each)
    return parts


class _Reading:
    """Passages so far, None for each BREAK; and for each open bracket, with which passage it begins."""

    def __init__(self) -> None:
        self._read: list[Passage | None] = []
        self._round: list[int] = []
        self._square: list[int] = []

    def read(self, prompt: str) -> list[Passage | None]:
        for sign in _SIGN.finditer(prompt):
            if sign["bracket"]:
                self._bracket(sign["bracket"])
            elif sign["weighed"] and self._round:
                self._weigh(self._round.pop(), float(sign["weight"]))
            elif sign["escaped"] is not None:
                self._read.append(Passage(sign["escaped"]))
            else:
                self._text(sign[0])
        for begin in self._round:
            self._weigh(begin, STRESS)
        for begin in self._square:
            self._weigh(begin, 1 / STRESS)
        return self._read

    def _bracket(self, sign: str) -> None:
        if sign == "(":
            self._round.append(len(self._read))
        elif sign == "[":
            self._square.append(len(self._read))
        elif sign == ")" and self._round:
            self._weigh(self._round.pop(), STRESS)
        elif sign == "]" and self._square:
            self._weigh(self._square.pop(), 1 / STRESS)
        else:
            self._text(sign)

    def _text(self, text: str) -> None:
        first, *others = _BREAK.split(text)
        self._read.append(Passage(first))
        for each in others:
            self._read += [None, Passage(each)]

    def _weigh(self, begin: int, weight: float) -> None:
        self._read[begin:] = [each and replace(each, weight=each.weight * weight) for each in self._read[begin:]]
