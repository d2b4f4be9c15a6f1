from drawing import draw, end, node, start

from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.variables import VariablePool


def load_merge(data, kind="variable-aggregator"):
    return load_graph(draw([start(), node("merge", kind, **data), end()], ["start > merge", "merge > end"]))


def merge(values, **data):
    return execute(load_merge(data).nodes["merge"], VariablePool.of({"start": values}))


def groups(**named):
    entries = [{"groupId": "g", "group_name": name, "variables": selectors} for name, selectors in named.items()]
    return {"variables": [], "advanced_settings": {"group_enabled": True, "groups": entries}}


def test_the_first_value_that_is_there_wins_whatever_it_is():
    done = merge({"b": None, "c": "x"}, variables=[["start", "a"], ["start", "b"], ["start", "c"]])
    assert (done.outputs, done.inputs) == ({"output": None}, {"b": None})


def test_where_nothing_is_there_there_is_no_output():
    assert merge({}, variables=[["start", "a"]]).outputs == {}


def test_each_group_gives_an_object_and_an_empty_one_nothing():
    done = merge(
        {"a": 1, "c": {"d": 2}}, **groups(one=[["start", "a"]], two=[["start", "b"]], three=[["start", "c", "d"]])
    )
    assert done.outputs == {"one": {"output": 1}, "three": {"output": 2}}
    assert done.inputs == {"a": 1, "c.d": 2}


def test_groups_that_are_switched_off_do_not_count():
    off = groups(one=[["start", "a"]])
    off["advanced_settings"]["group_enabled"] = False
    assert merge({"a": 1, "b": 2}, **off | {"variables": [["start", "b"]]}).outputs == {"output": 2}


def test_the_name_from_before_groups_and_empty_places_are_read():
    graph = load_merge({"variables": [[], ["start", "a"]], "advanced_settings": None}, "variable-assigner")
    assert execute(graph.nodes["merge"], VariablePool.of({"start": {"a": 1}})).outputs == {"output": 1}
