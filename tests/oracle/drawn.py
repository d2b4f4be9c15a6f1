"""Graphs and inputs that chance draws, for both engines: what Dify's editor could have drawn."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Node = dict[str, Any]

NAMES = ("a", "b", "c")
WORDS = st.sampled_from(["", "a", "ab", "b", "true", "1", "1.5", "x y", "é", "{{#start.a#}}", "[{{#start.b#}}]", "no"])
TEXTS = st.sampled_from(["", "a", "ab", "b a", "true", "1", "1.5", "é 🙂", "long" * 9])
SCALARS = st.one_of(TEXTS, st.integers(-3, 3), st.sampled_from([0.5, -1.0, 2.25]), st.booleans(), st.none())
OBJECTS = st.dictionaries(st.sampled_from(["k", "b", "size"]), SCALARS, max_size=2)
LISTS = st.one_of(
    st.lists(TEXTS, max_size=3),
    st.lists(st.integers(-3, 3), max_size=3),
    st.lists(st.booleans(), max_size=3),
    st.lists(OBJECTS, max_size=2),
    st.lists(SCALARS, max_size=3),
)
VALUES = st.one_of(SCALARS, OBJECTS, LISTS, st.dictionaries(st.just("k"), st.one_of(OBJECTS, LISTS), max_size=1))
INPUTS = st.one_of(
    st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)),
    st.fixed_dictionaries(dict.fromkeys(NAMES, TEXTS)),
    st.fixed_dictionaries({"a": TEXTS, "b": st.integers(-3, 3), "c": LISTS}),
    st.fixed_dictionaries({"a": TEXTS, "b": st.integers(-3, 3), "c": st.lists(TEXTS, min_size=1, max_size=3)}),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
)

TEMPLATES = (
    "",
    "plain",
    "{{ a }}",
    "{{ a }}-{{ b }}",
    "{{ a | upper }}",
    "{{ a | length }}",
    "{{ a.k }}",
    "{{ a[0] }}",
    "{% for x in a %}{{ loop.index }}{{ x }};{% endfor %}",
    "{% if a %}yes{% else %}no{% endif %}",
    "{{ a ~ b }}",
    "{{ a + b }}",
    "{{ a | default('none', true) }}",
    "{{ a | join(',') }}",
    "{{ a | tojson }}",
    "{{ missing }}",
    "{{ missing.more }}",
)
UNARY = ("empty", "not empty", "null", "not null", "exists", "not exists")
OF_TEXTS = ("contains", "not contains", "start with", "end with", "is", "is not", "empty")
OF_ANYTHING = ("contains", "not contains", "start with", "end with", "is", "=", ">", "<", "≥", "≤")
OF_LISTS = ("in", "not in", "all of")
BOOLEANS = st.sampled_from(["true", "false", "1", "0"])
REMOVE = "remove-abnormal-output"
DEFAULTS = (("string", "d"), ("number", "3"), ("object", '{"k": "v"}'), ("array[string]", '["d"]'))
ASSIGNMENTS = ("over-write", "clear", "set", "+=", "-=", "*=", "/=", "append", "extend", "remove-first", "remove-last")


def node(node_id: str, kind: str, **data: Any) -> Node:
    return {"id": node_id, "type": "custom", "data": {"type": kind, "title": node_id, **data}}


def edge(source: str, target: str, handle: str = "source") -> dict[str, Any]:
    return {"id": f"{source}-{handle}-{target}", "source": source, "target": target, "sourceHandle": handle}


OUTPUTS = {
    "start": NAMES,
    "template-transform": ("output",),
    "if-else": ("result", "selected_case_id"),
    "variable-aggregator": ("output",),
    "iteration": ("output",),
    "list-operator": ("result", "first_record", "last_record"),
    "loop": ("n", "s", "loop_round"),
}


@st.composite
def selectors(draw: Any, known: list[Node]) -> list[str]:
    """Of what comes before; now and then of a part that may not be there."""
    origin = draw(st.sampled_from(known))
    kind = origin["data"]["type"]
    if kind == "variable-aggregator" and "advanced_settings" in origin["data"]:
        return [origin["id"], draw(st.sampled_from(["output", "one"])), "output"]
    selector = [origin["id"], draw(st.sampled_from(OUTPUTS[kind]))]
    return selector + draw(st.sampled_from([[]] * 9 + [["k"], ["k", "k"]]))


@st.composite
def conditions(draw: Any, known: list[Node]) -> dict[str, Any]:
    selector = draw(selectors(known))
    if selector[1] == "result":
        operator, value = (
            draw(st.sampled_from(["is", "is not", "=", "empty"])),
            draw(st.sampled_from(["true", "false"])),
        )
    elif selector[1:] in (["output"], ["selected_case_id"]) and _is_text(selector[0], known):
        operator, value = draw(st.sampled_from(OF_TEXTS)), draw(WORDS)
    else:
        operator, value = draw(comparisons())
    return {"variable_selector": selector, "comparison_operator": operator, "value": value}


def _is_text(node_id: str, known: list[Node]) -> bool:
    return any(each["id"] == node_id and each["data"]["type"] in ("template-transform", "if-else") for each in known)


@st.composite
def comparisons(draw: Any) -> tuple[str, Any]:
    """An operator for a value of any type: most of them fail on most types. With booleans in mind, what is compared
    is a boolean's text, and as a null may come, `is not` and `≠` are left out (test_differences.py)."""
    shape = draw(st.sampled_from(["unary", "unary", "unary", "text", "list"]))
    if shape == "unary":
        return draw(st.sampled_from(UNARY)), None
    if shape == "list":
        return draw(st.sampled_from(OF_LISTS)), draw(st.lists(BOOLEANS, max_size=3))
    return draw(st.sampled_from(OF_ANYTHING)), draw(BOOLEANS)


@st.composite
def branches(draw: Any, node_id: str, known: list[Node]) -> Node:
    joined = st.sampled_from(["and", "or"])
    held = st.lists(conditions(known), min_size=1, max_size=3)
    if draw(st.integers(0, 5)) == 0:  # the form from before cases
        return node(node_id, "if-else", logical_operator=draw(joined), conditions=draw(held))
    cases = [
        {"case_id": name, "logical_operator": draw(joined), "conditions": draw(held)}
        for name in ("one", "two")[: draw(st.integers(1, 2))]
    ]
    return node(node_id, "if-else", cases=cases)


@st.composite
def templates(draw: Any, node_id: str, known: list[Node]) -> Node:
    names = draw(st.lists(st.sampled_from(["a", "b"]), unique=True, max_size=2))
    bound = [{"variable": name, "value_selector": draw(selectors(known))} for name in names]
    texts = st.one_of(st.sampled_from(TEMPLATES), st.sampled_from(TEMPLATES[:4]))
    return node(node_id, "template-transform", template=draw(texts), variables=bound)


@st.composite
def aggregators(draw: Any, node_id: str, known: list[Node]) -> Node:
    lists = st.lists(selectors(known), max_size=3)
    if draw(st.booleans()):
        return node(node_id, "variable-aggregator", output_type="string", variables=draw(lists))
    groups = [{"group_name": name, "output_type": "string", "variables": draw(lists)} for name in ("output", "one")]
    settings = {"group_enabled": True, "groups": groups}
    return node(node_id, "variable-aggregator", output_type="any", variables=[], advanced_settings=settings)


@st.composite
def answers(draw: Any, node_id: str, known: list[Node]) -> Node:
    said = draw(st.lists(st.one_of(TEXTS, selectors(known)), max_size=4))
    return node(node_id, "answer", answer="".join(one if isinstance(one, str) else _reference(one) for one in said))


def _reference(selector: list[str]) -> str:
    return "{{#" + ".".join(selector) + "#}}"


@st.composite
def assignments(draw: Any, variables: Any) -> dict[str, Any]:
    """Most of them fit what the inputs mostly are: a text, a number and a list."""
    if draw(st.integers(0, 3)) == 0:
        input_type, operation = draw(st.sampled_from(["variable", "constant"])), draw(st.sampled_from(ASSIGNMENTS))
        value = draw(variables) if input_type == "variable" else draw(SCALARS)
        return assignment(draw(variables), input_type, operation, value)
    name = draw(st.sampled_from(NAMES))
    if name == "c":
        return assignment(["start", "c"], "variable", draw(st.sampled_from(ASSIGNMENTS[7:])), ["start", "a"])
    operation = draw(st.sampled_from(["set", "over-write"] if name == "a" else ASSIGNMENTS[2:7]))
    return assignment(["start", name], "constant", operation, draw(TEXTS if name == "a" else st.integers(1, 3)))


def assignment(target: list[str], input_type: str, operation: str, value: Any) -> dict[str, Any]:
    return {"variable_selector": target, "input_type": input_type, "operation": operation, "value": value}


@st.composite
def assigners(draw: Any, node_id: str) -> Node:
    """Of the start node's variables: it is the only one before them."""
    variables = st.sampled_from(NAMES).map(lambda name: ["start", name])
    if draw(st.integers(0, 3)) == 0:
        target, mode = draw(st.sampled_from([("a", "over-write"), ("c", "append"), ("a", "clear"), ("b", "clear")]))
        old = {"assigned_variable_selector": ["start", target], "input_variable_selector": ["start", "a"]}
        return node(node_id, "assigner", write_mode=mode, **old)
    # Each of another variable: a list that has been emptied forgets here what it was a list of.
    different = {"min_size": 1, "max_size": 2, "unique_by": lambda item: item["variable_selector"][1]}
    items = draw(st.lists(assignments(variables), **different))
    return node(node_id, "assigner", version="2", items=items)


@st.composite
def list_operators(draw: Any, node_id: str, known: list[Node]) -> Node:
    filters = st.sampled_from([*OF_TEXTS[:6], "in", "not in", "not empty", "=", "≠", "<", "≥"])
    values = st.one_of(WORDS, BOOLEANS, st.booleans())
    held = [
        {"key": "", "comparison_operator": draw(filters), "value": draw(values)} for _ in range(draw(st.integers(0, 2)))
    ]
    switch = st.booleans()
    return node(
        node_id,
        "list-operator",
        variable=draw(st.one_of(*[st.just(["start", "c"])] * 3, selectors(known))),
        filter_by={"enabled": draw(switch), "conditions": held},
        extract_by={"enabled": draw(switch), "serial": draw(st.sampled_from(["1", "2", "0", "x"]))},
        order_by={"enabled": draw(switch), "key": "", "value": draw(st.sampled_from(["asc", "desc"]))},
        limit={"enabled": draw(switch), "size": draw(st.integers(-1, 3))},
    )


@st.composite
def containers(draw: Any, node_id: str, known: list[Node]) -> Node:
    """A node with `inner`: its nodes and edges, which the sheet takes over."""
    return draw(draw(st.sampled_from([iterations, loops]))(node_id, known))


@st.composite
def iterations(draw: Any, node_id: str, known: list[Node]) -> Node:
    """Templates over each item, perhaps behind a branch; some items make them fail."""
    inside = {"isInIteration": True, "iteration_id": node_id}
    item = [{"variable": "a", "value_selector": [node_id, draw(st.sampled_from(["item", "item", "index"]))]}]
    fragile = st.sampled_from(["{{ a + 1 }}", "{{ a | length }}", "{{ a.k }}", "{{ a[1] }}"])
    text = draw(st.one_of(st.sampled_from(["{{ a }}", "[{{ a }}]", "{{ a | upper }}"]), fragile))
    nodes = [
        node(f"{node_id}start", "iteration-start", **inside),
        node(f"{node_id}_t", "template-transform", template=text, variables=item, **inside),
    ]
    edges = [edge(f"{node_id}start", f"{node_id}_t")]
    if draw(st.booleans()):
        choice = condition([f"{node_id}_t", "output"], draw(st.sampled_from(OF_TEXTS)), draw(WORDS))
        cases = [{"case_id": "one", "logical_operator": "and", "conditions": [choice]}]
        nodes.append(node(f"{node_id}_c", "if-else", cases=cases, **inside))
        nodes.append(node(f"{node_id}_u", "template-transform", template="u{{ a }}", variables=item, **inside))
        edges += [edge(f"{node_id}_t", f"{node_id}_c"), edge(f"{node_id}_c", f"{node_id}_u", "one")]
    within = draw(nested(node_id, known, inside))
    last = draw(st.sampled_from([each["id"] for each in nodes if each["data"]["type"] == "template-transform"]))
    results = st.sampled_from([[last, "output"], [node_id, "item"], [f"{node_id}_n", "output"]])
    is_parallel, mode = draw(st.booleans()), draw(st.sampled_from(["terminated", "continue-on-error", REMOVE]))
    if is_parallel and mode == REMOVE:  # nulls are dropped there (test_differences.py)
        results = st.just([f"{node_id}_t", "output"])
    made = node(
        node_id,
        "iteration",
        iterator_selector=draw(st.one_of(*[st.just(["start", "c"])] * 3, selectors(known))),
        output_selector=draw(results),
        start_node_id=f"{node_id}start",
        is_parallel=is_parallel,
        parallel_nums=draw(st.integers(1, 3)),
        error_handle_mode=mode,
        flatten_output=draw(st.booleans()),
    )
    return enclosing(made, nodes, edges, within)


@st.composite
def loops(draw: Any, node_id: str, known: list[Node]) -> Node:
    """Counts and collects, until a condition holds, a loop-end is reached or the rounds are used up."""
    inside = {"isInLoop": True, "loop_id": node_id}
    n, s = [node_id, "n"], [node_id, "s"]
    shown = [{"variable": "a", "value_selector": draw(st.sampled_from([n, s]))}]
    items = [
        {
            "variable_selector": n,
            "input_type": "constant",
            "operation": draw(st.sampled_from(ASSIGNMENTS[3:7])),
            "value": 2,
        },
        {"variable_selector": s, "input_type": "variable", "operation": "append", "value": [f"{node_id}_t", "output"]},
    ]
    nodes = [
        node(f"{node_id}start", "loop-start", **inside),
        node(f"{node_id}_t", "template-transform", template="<{{ a }}>", variables=shown, **inside),
        node(f"{node_id}_set", "assigner", version="2", items=draw(st.permutations(items)), **inside),
    ]
    edges = [edge(f"{node_id}start", f"{node_id}_t"), edge(f"{node_id}_t", f"{node_id}_set")]
    if not node_id.endswith("_n") and draw(st.booleans()):  # see test_differences.py
        held = [condition(n, draw(st.sampled_from([">", "<", "≥"])), "2")]
        cases = [{"case_id": "one", "logical_operator": "and", "conditions": held}]
        nodes += [node(f"{node_id}_c", "if-else", cases=cases, **inside), node(f"{node_id}_e", "loop-end", **inside)]
        edges += [edge(f"{node_id}_set", f"{node_id}_c"), edge(f"{node_id}_c", f"{node_id}_e", "one")]
    within = draw(nested(node_id, known, inside))
    breaks = st.sampled_from([[], [condition(n, ">", "3")], [condition(s, "contains", "<4>")]])
    made = node(
        node_id,
        "loop",
        loop_count=draw(st.integers(1, 4)),
        start_node_id=f"{node_id}start",
        break_conditions=draw(breaks) + draw(breaks),
        logical_operator=draw(st.sampled_from(["and", "or"])),
        loop_variables=[
            {"label": "n", "var_type": "number", "value_type": "constant", "value": draw(st.integers(0, 3))},
            {"label": "s", "var_type": "array[string]", "value_type": "constant", "value": '["x"]'},
        ],
    )
    return enclosing(made, nodes, edges, within)


@st.composite
def nested(draw: Any, node_id: str, known: list[Node], inside: dict[str, Any]) -> Node | None:
    """Now and then a container inside the container, two deep at most."""
    if node_id.endswith("_n") or draw(st.integers(0, 3)):
        return None
    made = draw(containers(f"{node_id}_n", known))
    return made | {"data": made["data"] | inside}


def enclosing(made: Node, nodes: list[Node], edges: list[dict[str, Any]], within: Node | None) -> Node:
    """The container with what is inside it; `within` comes after its template."""
    if within is not None:
        inner_nodes, inner_edges = within.pop("inner")
        template = f"{made['id']}_t"
        nodes, edges = [*nodes, within, *inner_nodes], [*edges, edge(template, within["id"]), *inner_edges]
    return made | {"inner": (nodes, edges)}


def condition(selector: list[str], operator: str, value: Any) -> dict[str, Any]:
    return {"variable_selector": selector, "comparison_operator": operator, "value": value}


def handles(of: Node) -> list[str]:
    data = of["data"]
    ways = ["source"]
    if data["type"] == "if-else":
        ways = [case["case_id"] for case in data.get("cases", [{"case_id": "true"}])] + ["false"]
    return [*ways, "fail-branch"] if data.get("error_strategy") == "fail-branch" else ways


@st.composite
def strategies(draw: Any, made: Node) -> Node:
    """The node, now and then with what to do when it fails."""
    chosen = draw(st.sampled_from([None, None, None, "fail-branch", "default-value"]))
    kind = made["data"]["type"]  # graphon leaves a failed loop's variables behind; for branches see test_differences.py
    if chosen is None or kind == "loop" or (chosen == "default-value" and kind == "if-else"):
        return made
    default = draw(
        st.sampled_from([("string", "d"), ("number", "3"), ("object", '{"k": "v"}'), ("array[string]", '["d"]')])
    )
    entries = [{"key": "output", "type": default[0], "value": default[1]}]
    more = {"error_strategy": chosen} | ({"default_value": entries} if chosen == "default-value" else {})
    return made | {"data": made["data"] | more}


@st.composite
def graphs(draw: Any) -> dict[str, Any]:
    """A start node, perhaps an assigner, then up to eight nodes, each behind one to three before it, and an end behind
    each that nothing follows. Nodes read what lies before them: what runs beside them may be there or not."""
    sheet = Sheet()
    sheet.add(node("start", "start", variables=[]), [])
    first = 0
    if draw(st.integers(0, 2)) == 0:
        sheet.add(draw(assigners("set")), [("start", "source")])
        first = 1
    kinds = [templates, templates, branches, aggregators, containers]
    if not first:  # a list that was empty once is of no type in graphon, and can't be operated on
        kinds.append(list_operators)
    for number in range(draw(st.integers(1, 8))):
        parents = draw(st.lists(st.sampled_from(sheet.ids[first:]), min_size=1, max_size=3, unique=True))
        ways = [(parent, draw(st.sampled_from(handles(sheet.nodes[parent])))) for parent in parents]
        kind = draw(st.sampled_from(kinds))
        sheet.add(draw(strategies(draw(kind(f"n{number}", sheet.before(parents))))), ways)
    for last in [each for each in sheet.ids if not sheet.is_followed(each)]:
        known, handle = sheet.before([last]), draw(st.sampled_from(handles(sheet.nodes[last])))
        if not sheet.has_answer and draw(st.integers(0, 2)) == 0:  # two of them answer in the order of their ends
            sheet.add(draw(answers(f"say_{last}", known)), [(last, handle)])
            continue
        outputs = [
            {"variable": f"{name}_{last}", "value_selector": draw(selectors(known))}
            for name in "xyz"[: draw(st.integers(0, 3))]
        ]
        sheet.add(node(f"end_{last}", "end", outputs=outputs), [(last, handle)])
    return sheet.graph


class Sheet:
    """A graph being drawn."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[dict[str, Any]] = []
        self.inner: list[Node] = []

    @property
    def ids(self) -> list[str]:
        return list(self.nodes)

    def add(self, made: Node, ways: list[tuple[str, str]]) -> None:
        """`ways` are (source, handle)."""
        inner, edges = made.pop("inner", ([], []))
        self.inner += inner
        self.edges += edges
        self.nodes[made["id"]] = made
        self.edges += [edge(source, made["id"], handle) for source, handle in ways]

    @property
    def has_answer(self) -> bool:
        return any(each["data"]["type"] == "answer" for each in self.nodes.values())

    def is_followed(self, node_id: str) -> bool:
        return any(each["source"] == node_id for each in self.edges)

    def before(self, node_ids: list[str]) -> list[Node]:
        """These and everything that leads to them; what can be read, that is."""
        found, new = set(), set(node_ids)
        while new:
            found |= new
            new = {each["source"] for each in self.edges if each["target"] in new} - found
        return [each for each in self.nodes.values() if each["id"] in found and each["data"]["type"] in OUTPUTS]

    @property
    def graph(self) -> dict[str, Any]:
        return {"nodes": [*self.nodes.values(), *self.inner], "edges": self.edges}
