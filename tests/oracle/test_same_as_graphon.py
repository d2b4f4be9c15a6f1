"""Atelier against graphon, Dify's own engine: the same drawn graphs and inputs come to the same.

What differs on purpose is left out of what is drawn, and shown one by one in test_differences.py. The same graphs are
drawn each time; ATELIER_ORACLE_GRAPHS=1000 draws so many others.
"""

import gzip
import json
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.oracle.drawn import INPUTS, graphs
from tests.oracle.engines import PYTHON, RECORDED, atelier, graphon

OTHERS = int(os.environ.get("ATELIER_ORACLE_GRAPHS", "0"))

needs_graphon = pytest.mark.skipif(not PYTHON.exists(), reason="no graphon here: it needs Python 3.12 (make test)")


@pytest.fixture(scope="module")
def oracle():
    with graphon() as child:
        yield child


def test_recorded_runs_come_to_the_same():
    """What graphon said on a machine that has it (tests/oracle/record.py)."""
    with gzip.open(RECORDED, "rt") as file:
        recorded = [json.loads(line) for line in file]
    for asked, theirs in recorded:
        same(asked, theirs)
    assert len(recorded) > 200


@needs_graphon
@settings(
    max_examples=OTHERS or 80,
    derandomize=not OTHERS,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@pytest.mark.timeout(600)
@given(graphs(), st.lists(INPUTS, min_size=2, max_size=4))
def test_drawn_graphs_come_to_the_same(oracle, graph, inputs):
    batch = [{"graph": graph, "inputs": each} for each in inputs]
    for asked, theirs in zip(batch, oracle.run(batch), strict=True):
        same(asked, theirs)


def same(asked, theirs):
    ours = atelier(asked)
    assert comparable(ours, theirs) == comparable(theirs, ours), json.dumps(asked, ensure_ascii=False)
    assert not silence(ours, theirs), json.dumps(asked, ensure_ascii=False)


def comparable(told, other):
    """What must be the same. Where a run failed, engines differ in what else they had begun: then what both ran."""
    if "refused" in told:
        return {"refused": True}
    has_failed = "failed" in (told["status"], other.get("status"))
    ran = {name: step for name, step in told["nodes"].items() if not has_failed or name in other.get("nodes", {})}
    return {
        "status": told["status"],
        "nodes": {name: _step(step) for name, step in ran.items()},
        "outputs": None if has_failed else told["outputs"],
    }


def silence(ours, theirs):
    """The chunks of text that only one of them has told, of a run that was told to its end.

    graphon stops telling at a value that never comes, with this end node and all others; Atelier passes it over. So it
    may have told less of a run whose outputs lack something. And it tells a loop's variable as it stands at the moment
    when its turn has come, be the loop at its end or not.
    """
    if theirs.get("status") not in ("succeeded", "partial-succeeded"):
        return []
    mine, other = (Counter(_chunks(told)) for told in (ours, theirs))
    lacking = None in ours["outputs"].values() or "answer" in ours["outputs"]
    return list(other - mine) + ([] if lacking else list(mine - other))


def _chunks(told):
    return ((".".join(selector), text) for selector, text in told["said"] if selector[1] not in ("n", "s"))


def _step(step):
    """What a template says of its failure is its engine's own; that it has failed, and what follows, is not."""
    outputs = {name: value for name, value in step["outputs"].items() if name not in ("error_message", "error_type")}
    return step["status"], None if step["status"] == "failed" else outputs, step["handle"]
