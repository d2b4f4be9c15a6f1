import contextlib
import json
from pathlib import Path

import pytest
import yaml
from drawing import branch, condition, draw, end, field, node, start, template, tool
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.run import StepStatus
from app.errors import DocumentInvalid
from app.graph.document import parse_document, with_environment
from app.graph.execute import Completed, WorkerCall, execute, first_pool
from app.graph.graph import load_graph
from app.graph.inputs import read_inputs
from tests.unit.states import StepState, plan

SHIPPED = sorted(Path(__file__).parents[2].joinpath("workflows").glob("*.yml"))
JUNK = [None, "", "x", 0, 7, 1.5, True, [], ["x"], [1], {}, {"x": 1}, [[]]]
SMALLEST = draw([start(), end()], ["start > end"])
SMALLEST_YAML = """\
app: {mode: workflow}
workflow:
  graph:
    nodes:
    - {id: start, data: {type: start, variables: []}}
    - {id: end, data: {type: end, outputs: []}}
    edges:
    - {source: start, target: end}
"""


def problems_of(text):
    with pytest.raises(DocumentInvalid) as refusal:
        load_graph(text)
    return list(refusal.value.problems)


def changed(**changes):
    content = json.loads(SMALLEST) | changes
    return json.dumps({key: value for key, value in content.items() if value != "absent"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("just a text", "Invalid YAML format: content must be a mapping"),
        ("", "Invalid YAML format: content must be a mapping"),
        (changed(version=0.3), "Invalid version type, expected str, got <class 'float'>"),
        (changed(app="absent"), "Missing app data in YAML content"),
        (changed(app={"name": "x"}), "loss app mode"),
        (changed(app={"mode": "dance"}), "Invalid app mode"),
        (changed(version="six"), "Invalid version 'six': write it as '0.6.0'"),
        (changed(workflow="absent"), "Missing workflow data for workflow/advanced chat app"),
        (changed(workflow={"features": {}}), "Missing graph data in the workflow"),
        (changed(workflow={"graph": {"nodes": ["x"]}}), "graph.nodes must be a list of mappings"),
        (draw([], []), "Graph must have at least one node"),
    ],
)
def test_the_outer_form_is_refused_in_difys_words(text, problem):
    assert problems_of(text) == [problem]


@pytest.mark.parametrize(
    ("mode", "way_out"), [("chat", "switch it to workflow orchestration"), ("advanced-chat", "end nodes in place")]
)
def test_an_app_that_is_no_workflow_is_told_the_way_out(mode, way_out):
    (problem,) = problems_of(changed(app={"mode": mode}))
    assert problem.startswith(f"app mode '{mode}' is not supported: ")
    assert way_out in problem


@pytest.mark.parametrize("kind", ["knowledge-retrieval", "agent", "datasource", "trigger-schedule"])
def test_a_kind_that_only_dify_has_is_told_the_way_out(kind):
    (problem,) = problems_of(draw([start(), node("n", kind, title="N")], ["start > n"]))
    assert problem.startswith(f"node 'n' (N): kind '{kind}' is not supported: ")


def test_text_that_is_not_yaml_is_refused():
    assert problems_of("a: [")[0].startswith("Invalid YAML format: ")
    assert problems_of("[" * 5000)[0].startswith("Invalid YAML format: ")


@pytest.mark.parametrize(
    "trick",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "\n".join(
            [
                "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
                *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)),
            ]
        ),
        "a: !!python/object/apply:os.system [echo]",
        "a: !!binary aGk=",
        "a: !!set {x}",
    ],
)
def test_what_no_json_can_hold_is_refused(trick):
    assert problems_of(SMALLEST_YAML + trick)[0].startswith("Invalid YAML format: ")


def test_what_looks_like_a_date_is_text_and_a_number_may_be_a_key():
    variable = "{variable: day, label: Day, type: text-input, default: 2024-01-31, hint: {2: two, on: yes}}"
    graph = load_graph(SMALLEST_YAML.replace("variables: []", f"variables: [{variable}]"))
    assert graph.start.variables[0].default == "2024-01-31"
    assert graph.start.variables[0].declaration["hint"] == {"2": "two", "true": True}


def test_other_values_of_the_environment_are_read_as_declared():
    entries = [
        {"name": "steps", "value": 20, "value_type": "number"},
        {"name": "key", "value": "", "value_type": "secret"},
    ]
    document = parse_document(draw([start(), end()], ["start > end"], environment_variables=entries))
    assert [variable.name for variable in document.variables if variable.is_unset_secret] == ["key"]
    assert with_environment(document, {"steps": "1e3", "key": "7"}).environment == {"steps": 1000.0, "key": "7"}
    with pytest.raises(DocumentInvalid) as refusal:
        with_environment(document, {"steps": "many", "token": "x"})
    assert list(refusal.value.problems) == [
        "environment variable 'steps' is a number, got 'many'",
        "the document declares no environment variable 'token'; it declares: key, steps",
    ]


def test_a_version_that_is_newer_is_read_with_a_warning():
    assert parse_document(changed(version="0.6.9")).warnings == ()
    assert parse_document(changed(version="0.7.0")).warnings[0].startswith("the document is of version 0.7.0")


@pytest.mark.parametrize("version", ["absent", "0.1.0", "0.1.5", "0.3.1", "0.6.0", "0.6.9"])
def test_every_version_is_read(version):
    assert parse_document(changed(version=version, kind="absent")).version == version.replace("absent", "0.1.0")


@pytest.mark.parametrize(
    ("nodes", "edges", "problem"),
    [
        ([end()], [], "the graph has no start node"),
        (
            [start(), start(node_id="second"), end()],
            ["start > end", "second > end"],
            "node 'second': a graph has one start node, and 'start' is it already",
        ),
        ([start(), end(), end()], ["start > end"], "node 'end': the id is used by more than one node"),
        (
            [start(), template("a"), template("b")],
            ["start > a", "a > b", "b > a"],
            "node 'a': the edges form a cycle: a → b → a",
        ),
        (
            [start(), node("odd_1", "oddity", title="Ask the model")],
            ["start > odd_1"],
            "node 'odd_1' (Ask the model): kind 'oddity' is not supported; supported kinds: ",
        ),
        ([start(), end(x=[7])], ["start > end"], "node 'end': 'x' needs a selector [node id, variable], got [7]"),
        (
            [start(), branch("b", yes=[condition(["start", "v"], "almost")])],
            ["start > b"],
            "node 'b': operator 'almost' is not known; known operators: ",
        ),
        ([start(), branch("b", false=[])], ["start > b"], "node 'b': a case needs a case_id other than 'false', got "),
        (
            [start(field("a"), field("a"))],
            [],
            "node 'start': variable 'a' is declared more than once",
        ),
        (
            [start(field("a", "external_data_tool"))],
            [],
            "node 'start': variable 'a': type 'external_data_tool' is not supported; supported types: text-input, ",
        ),
        (
            [start(), node("x", "template-transform", template="", error_strategy="pray")],
            ["start > x"],
            "node 'x': error_strategy 'pray' is not known; known strategies: fail-branch, default-value",
        ),
    ],
)
def test_each_problem_names_its_node(nodes, edges, problem):
    assert [line for line in problems_of(draw(nodes, edges)) if line.startswith(problem)]


@pytest.mark.parametrize(
    ("nodes", "edges", "warning"),
    [
        ([start(), end()], [], "node 'end': can't be reached from start node 'start'"),
        ([start()], ["start > ghost"], "edge 'start > ghost' references unknown target node 'ghost'"),
        ([start()], ["ghost > start"], "edge 'ghost > start' references unknown source node 'ghost'"),
        (
            [start(), end(x=["ghost", "y"])],
            ["start > end"],
            "node 'end': 'ghost.y' reads node 'ghost', which does not exist",
        ),
        (
            [start(), template("a"), end(x=["a", "output"])],
            ["start > a", "start > end"],
            "node 'end': 'a.output' reads node 'a', which does not come before it",
        ),
        (
            [start(), tool(prompt="{{#ghost.text#}}")],
            ["start > paint"],
            "node 'paint': 'ghost.text' reads node 'ghost', which does not exist",
        ),
        (
            [start(), end(x=["env", "key"])],
            ["start > end"],
            "node 'end': 'env.key' names no environment variable of the document",
        ),
        ([start(), end(x=[])], ["start > end"], "node 'end': 'x' needs a selector [node id, variable], got []"),
    ],
)
def test_what_does_no_harm_is_a_warning(nodes, edges, warning):
    assert [line for line in load_graph(draw(nodes, edges)).warnings if line.startswith(warning)]


def test_a_node_that_nothing_leads_to_is_left_out():
    assert list(load_graph(draw([start(), template("alone"), end()], ["start > end", "alone > end"])).nodes) == [
        "start",
        "end",
    ]


def test_what_never_runs_may_be_of_any_kind():
    loose = [node("left", "knowledge-retrieval"), node("box", "loop", loop_count=0), template("in")]
    loose[2]["data"]["loop_id"] = "box"
    graph = load_graph(draw([start(), end(), *loose], ["start > end", "left > box"]))
    assert list(graph.nodes) == ["start", "end"]
    assert "node 'left': can't be reached from start node 'start', so it never runs" in graph.warnings
    assert problems_of(draw([start(), end(), *loose], ["start > end", "start > left"]))


def test_all_problems_are_told_at_once():
    nodes = [start(), node("a", "knowledge-retrieval"), node("b", "agent"), end(x=7)]
    assert len(problems_of(draw(nodes, ["start > a", "start > b", "b > end"]))) == 3


def test_notes_and_nodes_without_a_type_are_ignored():
    note = {"id": "note", "type": "custom-note", "data": {"type": "", "text": "hi"}}
    typeless = {"id": "none", "type": "custom", "data": {"type": ""}}
    assert list(load_graph(draw([note, start(), typeless, end()], ["start > end"])).nodes) == ["start", "end"]


@pytest.mark.parametrize("handle", [None, "source", "success-branch"])
def test_a_plain_node_is_left_by_source_whatever_the_file_calls_it(handle):
    content = json.loads(SMALLEST)
    content["workflow"]["graph"]["edges"][0]["sourceHandle"] = handle
    assert load_graph(json.dumps(content)).incoming["end"][0].handle == "source"


def test_environment_variables_are_in_the_pool():
    entries = [{"name": "steps", "value": "20", "value_type": "number"}, {"name": "key", "value": "k"}]
    graph = load_graph(draw([start(), end(x=["env", "steps"])], ["start > end"], environment_variables=entries))
    assert first_pool(graph, {}, {}).get(("env", "steps")) == 20


FILE = {"__artifact__": "1", "filename": "a.png", "extension": ".png", "mime_type": "image/png", "sha256": "0"}
GIVEN = {"number": 1, "file": {"transfer_method": "remote_url", "url": "https://x.example/a.png"}}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_document_loads_and_reaches_an_end(path):
    graph = load_graph(path.read_text("utf-8"))
    required = [variable for variable in graph.start.variables if variable.required]
    inputs = {variable.name: GIVEN.get(variable.type, "a cat") for variable in required}
    inputs |= {"recipe": "a cat\nSteps: 3, Seed: 7"} if "recipe" in inputs else {}
    files = {name: FILE for name, value in inputs.items() if value is GIVEN["file"]}
    states, done = run(graph, read_inputs(graph, inputs) | files)
    assert done.ended == "succeeded"
    assert any(end_id in states for end_id in graph.ends)


@pytest.mark.parametrize(("style", "word"), [("photo", "photograph"), ("drawing", "pencil"), (None, "a cat")])
def test_the_style_chooses_the_words(style, word):
    graph = load_graph(next(path for path in SHIPPED if path.stem == "style-preset").read_text("utf-8"))
    states, _ = run(graph, read_inputs(graph, {"prompt": "a cat", "style": style}))
    painted = [states[node_id] for node_id in states if node_id.startswith("paint_")]
    assert len(painted) == 1
    assert painted[0].inputs["prompt"].startswith(word)


def run(graph, inputs):
    """To the end, with a worker that paints nothing. Gives what each node came to, and the last plan."""
    pool, states, results = first_pool(graph, inputs, {}), {}, {}
    while not (due := plan(graph, states)).ended:
        for node_id in due.start:
            results[node_id] = execute(graph.nodes[node_id], pool)
            done = results[node_id]
            outputs = done.outputs if isinstance(done, Completed) else {"text": "", "files": [], "json": []}
            pool.add(node_id, outputs)
            states[node_id] = StepState(StepStatus.SUCCEEDED, None if isinstance(done, WorkerCall) else done.handle)
    return results, due


@settings(deadline=None)
@given(st.data())
def test_a_mangled_document_is_refused_or_read_but_never_crashes(data):
    content = yaml.safe_load(data.draw(st.sampled_from(SHIPPED)).read_text("utf-8"))
    place = content
    while isinstance(place, (dict, list)) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.integers(0, 5)) == 0:
            place[key] = data.draw(st.sampled_from(JUNK))
            break
        place = place[key]
    with contextlib.suppress(DocumentInvalid):
        assert load_graph(json.dumps(content)).nodes
