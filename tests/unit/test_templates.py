import pytest
from drawing import draw, end, start, template

from app.domain.artifact import Artifact
from app.errors import DocumentInvalid, NodeFailed
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.variables import VariablePool

PICTURE = Artifact("a1", "r", "s", "0" * 64, 5, "image/png", ".png", "cat.png").to_value()


def render(text, **values):
    writer = template("write", text, **{name: ["start", name] for name in values})
    graph = load_graph(draw([start(), writer, end()], ["start > write", "write > end"]))
    return execute(graph.nodes["write"], VariablePool.of({"start": values})).outputs["output"]


def refusal_of(text, **values):
    with pytest.raises(NodeFailed) as failure:
        render(text, **values)
    return failure.value.message


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("{{ a }}-{{ b | upper }}", "x-Y"),
        ("{% for c in ['p', 'q'] %}{{ loop.index }}/{{ loop.length }}{{ c }} {% endfor %}", "1/2p 2/2q "),
        ("{% for n in range(5) if n > 2 %}{{ n }}{% endfor %}", "34"),
        ("{% macro twice(t) %}{{ t }}{{ t }}{% endmacro %}{{ twice(a) }}", "xx"),
        ("{{ a ~ 1 ~ b }}{{ 'ab' * 2 }}{{ 2 ** 10 }}", "x1yabab1024"),
        ("{{ ['p', 'q'] | join(', ') }} {{ '+'.join(['p', 'q']) }}", "p, q p+q"),
        ("{{ [{'n': 1}, {'n': 2}] | join('-', attribute='n') }}", "1-2"),
        ("{{ '%05.2f' % 3.14159 }} {{ '{:.1f}'.format(2.25) }} {{ 'a b' | replace(' ', '_') }}", "03.14 2.2 a_b"),
        ("{{ unknown }}|{{ none }}", "|None"),
        ("{{ {'k': [1]} | tojson }} {{ 'p\nq' | indent(2) }} {{ 1.239 | round(2) }}", '{"k": [1]} p\n  q 1.24'),
    ],
)
def test_templates_are_jinja2(text, output):
    assert render(text, a="x", b="y") == output


def test_a_value_that_is_not_there_is_none():
    writer = template("write", "[{{ v }}]", v=["start", "ghost"])
    graph = load_graph(draw([start(), writer, end()], ["start > write", "write > end"]))
    assert execute(graph.nodes["write"], VariablePool.of({"start": {}})).outputs == {"output": "[None]"}


def test_files_are_mappings():
    assert render("{{ v[0].filename }} {{ v[0].type }} {{ v[0].size }}", v=[PICTURE]) == "cat.png image 5"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ v.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__['os'] }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ ''['__class__'].mro() }}",
        "{{ '{0.__class__.__mro__}'.format(v).x.y }}",
        "{{ v.append(1) }}",
        "{{ v.__class__ }}",
    ],
)
def test_a_template_cannot_look_around(text):
    assert refusal_of(text, v=[1])


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 10**9 }}",
        "{{ [0] * 10**9 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ [1] | batch(10**9, 0) | list }}",
        "{{ 'a' | indent(10**9) }}",
        "{{ 1 | round(10**9, 'ceil') }}",
        "{{ (1).to_bytes(10**9) }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('a' * 1000000).join(range(99999)) }}",
        "{{ range(10**9) | list }}",
        "{% set n = namespace(t='ab') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set n = namespace(t='ab') %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t=9) %}{% for i in range(99) %}{% set n.t = n.t * n.t %}{% endfor %}",
    ],
)
def test_a_template_cannot_swell(text):
    assert refusal_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(999) %}{% for b in 'a' * 999999 if false %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    ],
)
def test_a_template_cannot_turn_for_ever(text):
    assert refusal_of(text) == "Loops exceed 250000 turns"


def test_output_has_a_bound():
    text = "{% for n in range(50) %}{{ v }}{% endfor %}"
    assert len(render(text, v="x" * 8_000)) == 400_000
    assert refusal_of(text, v="x" * 8_001) == "Output length exceeds 400000 characters"


def test_what_goes_wrong_is_told_by_name():
    with pytest.raises(NodeFailed) as failure:
        render("{{ 1 / 0 }}")
    assert (failure.value.message, failure.value.error_type) == ("division by zero", "ZeroDivisionError")


def test_a_template_that_does_not_parse_is_a_problem_of_the_document():
    with pytest.raises(DocumentInvalid, match="node 'write': line 2 of the template: "):
        render("fine\n{{ oops")


def test_a_template_has_no_chance_in_it():
    with pytest.raises(DocumentInvalid, match="No filter named 'random'"):
        render("{{ [1, 2] | random }}")
