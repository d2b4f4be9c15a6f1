import pytest
from drawing import branch, draw, end, node, start, template

from app.domain.artifact import Artifact
from app.domain.run import StepStatus
from app.graph.answer import TextChunk, due_chunks
from app.graph.execute import execute, first_pool, merge_outputs
from app.graph.graph import load_graph
from app.graph.markdown import markdown
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
        ([{"a": "é"}, None], "- {'a': 'é'}\n- None"),
        (PICTURE, "![cat.png](/f/a1)"),
        (DEED, "[deed.pdf](/f/a2)"),
        ([PICTURE, DEED], "![cat.png](/f/a1)\n[deed.pdf](/f/a2)"),
        ([], ""),
    ],
)
def test_values_are_told_as_markdown(value, text):
    assert markdown(value, lambda file: f"/f/{file['__artifact__']}") == text


def test_an_answer_is_told_in_its_own_words_as_far_as_they_are_certain():
    graph = load_graph(
        draw(
            [start(), template("a"), node("say", "answer", answer="Hi {{#start.t#}}: {{#a.output#}}.")],
            ["start > a", "a > say"],
        )
    )
    pool = first_pool(graph, {"t": "you"}, {})
    said = [TextChunk(("say", "answer"), "Hi "), TextChunk(("start", "t"), "you"), TextChunk(("say", "answer"), ": ")]
    assert due_chunks(graph, {}, pool, 0) == said
    pool.add("a", {"output": "[x]"})
    rest = [TextChunk(("a", "output"), "[x]"), TextChunk(("say", "answer"), ".")]
    assert due_chunks(graph, passed("start", "a"), pool, 3) == rest
    assert execute(graph.nodes["say"], pool).outputs == {"answer": "Hi you: [x].", "files": []}


def test_an_answer_that_waits_for_nothing_is_told_as_the_run_begins():
    graph = load_graph(draw([start(), template("a"), node("say", "answer", answer="Hi")], ["start > a", "a > say"]))
    assert graph.heard == {"start"}
    assert due_chunks(graph, {}, first_pool(graph, {}, {}), 0) == [TextChunk(("say", "answer"), "Hi")]


def test_a_variable_that_an_assigner_may_set_is_told_after_it():
    items = [{"variable_selector": ["start", "t"], "input_type": "constant", "operation": "set", "value": "b"}]
    graph = load_graph(
        draw(
            [start(), node("set", "assigner", items=items), end(x=["start", "t"])],
            ["start > set", "set > end"],
        )
    )
    pool = first_pool(graph, {"t": "a"}, {})
    assert due_chunks(graph, passed("start"), pool, 0) == []
    execute(graph.nodes["set"], pool)
    assert due_chunks(graph, passed("start", "set"), pool, 0) == [TextChunk(("start", "t"), "b")]


def test_an_answer_holds_its_files_and_where_they_are_found_for_good():
    graph = load_graph(draw([start(), node("say", "answer", answer="{{#start.f#}} {{#start.gone#}}")], ["start > say"]))
    done = execute(graph.nodes["say"], first_pool(graph, {"f": [PICTURE, DEED]}, {}))
    assert done.outputs["answer"] == "![cat.png](/v1/files/a1)\n[deed.pdf](/v1/files/a2) start.gone"
    assert done.outputs["files"] == [PICTURE, DEED]


def test_later_ends_win_but_answers_are_strung_together():
    outputs = {
        "start": {"t": "not an end"},
        "right": {"x": 1, "answer": "a"},
        "left": {"x": 2, "y": 3, "answer": "b"},
    }
    assert merge_outputs(FORK, outputs) == {"x": 2, "y": 3, "answer": "ab"}
    assert merge_outputs(FORK, {"start": {}}) == {}
