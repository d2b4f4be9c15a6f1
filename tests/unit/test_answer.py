import pytest
from drawing import branch, draw, end, start, template

from app.domain.artifact import Artifact
from app.domain.run import StepStatus
from app.graph.answer import TextChunk, due_chunks, markdown
from app.graph.execute import first_pool, merge_outputs
from app.graph.graph import load_graph
from tests.unit.states import StepState

PICTURE = Artifact("a1", "r", "s", "0" * 64, 5, "image/png", ".png", "cat.png").to_value()
DEED = Artifact("a2", "r", "s", "0" * 64, 900, "application/pdf", ".pdf", "deed.pdf").to_value()
LINE = load_graph(draw([start(), template("a"), end(x=["start", "t"], y=["a", "output"])], ["start > a", "a > end"]))
FORK = load_graph(
    draw(
        [start(), branch("choose", yes=[]), end("left", x=["start", "t"]), end("right", x=["start", "t"])],
        ["start > choose", "choose yes > left", "choose false > right"],
    )
)
BREAK = TextChunk(("end", "answer"), "\n")


def passed(*node_ids, **handles):
    states = {node_id: StepState(StepStatus.SUCCEEDED) for node_id in node_ids}
    return states | {node_id: StepState(StepStatus.SUCCEEDED, handle) for node_id, handle in handles.items()}


def test_a_start_input_is_told_before_anything_has_run():
    pool = first_pool(LINE, {"t": "hello"}, {})
    assert due_chunks(LINE, {}, pool, 0) == [TextChunk(("start", "t"), "hello"), BREAK]


def test_what_was_released_is_not_told_again():
    pool = first_pool(LINE, {"t": "hello"}, {})
    pool.add("a", {"output": "there"})
    assert due_chunks(LINE, {}, pool, 2) == [TextChunk(("a", "output"), "there")]
    assert due_chunks(LINE, passed("start", "a", "end"), pool, 3) == []


def test_a_missing_variable_gives_no_chunk_but_its_separator_stays():
    assert due_chunks(LINE, passed("start", "a"), first_pool(LINE, {}, {}), 0) == [BREAK]


def test_a_producer_that_runs_holds_back_what_follows():
    states = passed("start") | {"a": StepState(StepStatus.RUNNING)}
    assert due_chunks(LINE, states, first_pool(LINE, {"t": "x"}, {}), 2) == []


def test_nothing_is_told_while_a_branch_is_undecided():
    assert due_chunks(FORK, passed("start"), first_pool(FORK, {"t": "x"}, {}), 0) == []


@pytest.mark.parametrize("handle", ["yes", "false"])
def test_only_the_end_that_will_be_reached_speaks(handle):
    chunks = due_chunks(FORK, passed("start", choose=handle), first_pool(FORK, {"t": "x"}, {}), 0)
    assert chunks == [TextChunk(("start", "t"), "x")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (3, "3"),
        ({"a": ["é"]}, '{\n  "a": [\n    "é"\n  ]\n}'),
        (["x", 2], "- x\n- 2"),
        (PICTURE, "![cat.png](/f/a1)"),
        (DEED, "[deed.pdf](/f/a2)"),
        ([PICTURE, DEED], "![cat.png](/f/a1)\n[deed.pdf](/f/a2)"),
        ([], ""),
    ],
)
def test_values_are_told_as_markdown(value, text):
    assert markdown(value, lambda file: f"/f/{file['__artifact__']}") == text


def test_later_ends_win_but_answers_are_strung_together():
    outputs = {
        "start": {"t": "not an end"},
        "right": {"x": 1, "answer": "a"},
        "left": {"x": 2, "y": 3, "answer": "b"},
    }
    assert merge_outputs(FORK, outputs) == {"x": 2, "y": 3, "answer": "ab"}
    assert merge_outputs(FORK, {"start": {}}) == {}
