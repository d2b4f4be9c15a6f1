"""A size that is asked for, as inputs of the documents that ship."""

from __future__ import annotations

from app.graph.tools.image_parameters import WIDEST
from app.runs.sizes import SMALLEST, STEP

_TOO_WIDE = 2  # times WIDEST is the most that a dialect may be asked for


def rounded(side: float) -> int:
    """Pixels as they can be painted; 0 for a side that is left open."""
    return max(SMALLEST, round(side / STEP) * STEP) if side > 0 else 0


def size_inputs(width: int, height: int) -> dict[str, int]:
    """What makes a picture about as large; a side that is 0 or less is left open, which one beyond WIDEST must not be.

    What is wider or higher than anything that is painted in one pass is painted at half of it and enlarged.
    """
    factor = 1 if max(width, height) <= WIDEST else _TOO_WIDE
    sides = {"width": rounded(width / factor), "height": rounded(height / factor)}
    inputs = {name: side for name, side in sides.items() if side}
    return inputs | ({"upscale": factor} if factor > 1 else {})
