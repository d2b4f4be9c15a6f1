"""The table that the benchmark prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what ours and theirs did, the ratio, and what it should be: "<= 1.03", ">= 3.0", or nothing."""

    what: str
    ours: str
    theirs: str
    ratio: float
    aim: str = ""

    @property
    def is_met(self) -> bool:
        if not self.aim:
            return True
        how, bound = self.aim.split()
        return self.ratio <= float(bound) if how == "<=" else self.ratio >= float(bound)

    def __str__(self) -> str:
        verdict = "" if not self.aim else "met" if self.is_met else "missed"
        return f"{self.what:<48}{self.ours:>14}{self.theirs:>18}{self.ratio:>9.3f}  {self.aim:<9}{verdict}"


HEAD = f"{'':<48}{'Atelier':>14}{'diffusers':>18}{'ratio':>9}  aim"
