from app.domain.artifact import unforged

MINE, OTHERS = {"__artifact__": "mine", "size": 1}, {"__artifact__": "others", "size": 1}


def test_of_what_a_step_gives_only_what_it_made_is_a_file():
    outputs = {"files": [MINE, OTHERS], "deep": {"list": [[OTHERS]]}, "text": "__artifact__"}
    expected = {"files": [MINE, {"size": 1}], "deep": {"list": [[{"size": 1}]]}, "text": "__artifact__"}
    assert unforged(outputs, {"mine"}) == expected


def test_a_file_in_disguise_hides_none():
    assert unforged({**OTHERS, "inner": OTHERS}) == {"size": 1, "inner": {"size": 1}}


def test_what_has_no_mark_stays_as_it_is():
    value = {"a": [1, {"b": None}]}
    assert unforged(value) is value
