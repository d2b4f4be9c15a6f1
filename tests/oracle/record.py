"""Draws graphs and inputs, asks graphon, and keeps what it says for machines that have none.

python -m tests.oracle.record
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.oracle.drawn import INPUTS, graphs
from tests.oracle.engines import RECORDED, graphon

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def main() -> None:
    drawn: list[dict[str, Any]] = []

    @settings(SETTINGS)
    @given(graphs(), st.lists(INPUTS, min_size=2, max_size=2))
    def draw(graph: dict[str, Any], inputs: list[dict[str, Any]]) -> None:
        drawn.extend({"graph": graph, "inputs": each} for each in inputs)

    draw()
    with graphon() as child:
        told = child.run(drawn)
    with gzip.GzipFile(RECORDED, "w", mtime=0) as file:
        for pair in zip(drawn, told, strict=True):
            file.write(json.dumps(pair, ensure_ascii=False).encode() + b"\n")
    print(f"{len(drawn)} runs, {RECORDED.stat().st_size} bytes")


if __name__ == "__main__":
    main()
