from pathlib import Path

import pytest
from drawing import draw, end, start, tool

from app.errors import DocumentInvalid, InvalidParam, NodeFailed
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.tools import find_tool, why_unknown
from app.graph.tools.image_tools import IMAGE_TO_IMAGE, INPAINT, OWN_IMAGE_TOOLS, UPSCALE
from app.graph.tools.parameters import check_argument, check_arguments
from app.graph.tools.text_to_image import SCHEDULERS, TEXT_TO_IMAGE
from app.graph.variables import VariablePool


def check(**arguments):
    return check_arguments(TEXT_TO_IMAGE, {"prompt": "a cat", **arguments})


def graph_of(painter):
    return load_graph(draw([start(), painter, end()], ["start > paint", "paint > end"]))


def call(painter, **values):
    return execute(graph_of(painter).nodes["paint"], VariablePool.of({"start": values}))


def test_what_is_left_out_gets_its_default_or_stays_out():
    assert check() == {"prompt": "a cat", "negative_prompt": "", "n": 1}


def test_an_empty_prompt_is_a_prompt():
    assert check(prompt="")["prompt"] == ""


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("name", ["model_name", "width", "seed", "guidance_scale", "scheduler"])
def test_an_optional_argument_that_says_nothing_is_left_out(name, nothing):
    assert name not in check(**{name: nothing})


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("width", "512", 512),
        ("width", 512.0, 512),
        ("steps", " 20 ", 20),
        ("steps", "2e1", 20),
        ("seed", str(2**53 - 1), 2**53 - 1),
        ("seed", 0, 0),
        ("guidance_scale", "7.5", 7.5),
        ("guidance_scale", 0, 0),
        ("scheduler", "Euler a", "euler_a"),
        ("scheduler", "DPM++ 2M  Karras", "dpmpp_2m_karras"),
        ("scheduler", "PLMS", "pndm"),
        ("scheduler", "UniPC", "unipc"),
    ],
)
def test_values_are_taken_in_every_form_that_people_write(name, given, taken):
    assert check(**{name: given})[name] == taken
    assert type(check(**{name: given})[name]) is type(taken)


def test_a_seed_of_minus_one_is_drawn_later():
    assert "seed" not in check(seed="-1")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_goes_by_its_short_name(name):
    assert check(scheduler=name.upper())["scheduler"] == name


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("prompt", None, "prompt is required"),
        ("prompt", 5, "prompt must be a string of at most 32000 characters, got 5"),
        ("prompt", "x" * 32_001, "prompt must be a string of at most 32000 characters, got 32001 characters"),
        ("width", 65, "width must be an integer from 64 to 2048 and a multiple of 8, got 65"),
        ("width", 4096, "width must be an integer from 64 to 2048 and a multiple of 8, got 4096"),
        ("steps", 0, "steps must be an integer from 1 to 150, got 0"),
        ("steps", True, "steps must be an integer from 1 to 150, got True"),
        ("steps", "many", "steps must be an integer from 1 to 150, got 'many'"),
        ("steps", "1_0", "steps must be an integer from 1 to 150, got '1_0'"),
        ("steps", 1.5, "steps must be an integer from 1 to 150, got 1.5"),
        ("n", "11", "n must be an integer from 1 to 10, got '11'"),
        ("seed", -2, "seed must be an integer from 0 to 9007199254740991, got -2"),
        ("seed", 2**53, "seed must be an integer from 0 to 9007199254740991, got 9007199254740992"),
        ("guidance_scale", "nan", "guidance_scale must be a number from 0 to 30, got 'nan'"),
        ("guidance_scale", float("inf"), "guidance_scale must be a number from 0 to 30, got inf"),
        ("scheduler", "magic", f"scheduler must be one of {', '.join(SCHEDULERS)}, got 'magic'"),
    ],
)
def test_a_refusal_names_the_argument_what_is_allowed_and_what_was_given(name, given, text):
    with pytest.raises(InvalidParam) as refusal:
        check(**{name: given})
    assert (refusal.value.message, refusal.value.params) == (text, name)


def test_an_unknown_argument_is_refused():
    with pytest.raises(InvalidParam, match=r"^colour is not a parameter of text_to_image"):
        check(colour="red")


def test_a_node_calls_a_gpu_worker_with_checked_inputs():
    painter = tool(
        prompt={"type": "mixed", "value": "a {{#start.animal#}}"},
        steps={"type": "variable", "value": ["start", "steps"]},
        settings={"width": {"type": "constant", "value": 512}, "height": "256", "seed": None},
    )
    made = call(painter, animal="cat", steps="20")
    assert made.work_class == "gpu"
    assert made.inputs == {
        "prompt": "a cat",
        "negative_prompt": "",
        "width": 512,
        "height": 256,
        "steps": 20,
        "n": 1,
    }


def test_a_plain_setting_is_no_template_and_a_constant_parameter_is():
    painter = tool(prompt={"type": "constant", "value": "{{#start.v#}}"}, settings={"model_name": "{{#start.v#}}"})
    made = call(painter, v="x")
    assert (made.inputs["prompt"], made.inputs["model_name"]) == ("x", "{{#start.v#}}")


def test_a_missing_variable_fails_a_required_argument_and_leaves_an_optional_one_out():
    ghost = {"type": "variable", "value": ["start", "ghost"]}
    assert "seed" not in call(tool(prompt="cat", seed=ghost)).inputs
    with pytest.raises(NodeFailed, match=r"^Variable \['start', 'ghost'\] does not exist$"):
        call(tool(prompt=ghost))


def test_a_value_that_comes_at_run_time_is_checked_then():
    with pytest.raises(InvalidParam, match=r"^steps must be"):
        call(tool(prompt="cat", steps="{{#start.steps#}}"), steps="999")


@pytest.mark.parametrize(
    ("painter", "problem"),
    [
        (tool(), "node 'paint': 'prompt' of text_to_image is required"),
        (tool(prompt="cat", steps=0), "node 'paint': steps must be an integer from 1 to 150, got 0"),
        (tool(prompt="cat", settings={"colour": "red"}), "node 'paint': 'colour' is not a parameter of text_to_image"),
        (tool(prompt={"type": "magic", "value": 1}), "node 'paint': 'prompt' has the form 'magic'; known forms"),
        (tool(prompt={"type": "variable", "value": "v"}), "node 'paint': 'prompt' needs a selector"),
    ],
)
def test_a_call_that_can_never_work_is_a_problem_of_the_document(painter, problem):
    with pytest.raises(DocumentInvalid) as refusal:
        graph_of(painter)
    assert any(line.startswith(problem) for line in refusal.value.problems)


def test_an_unknown_tool_is_refused_by_name():
    painter = tool(prompt="cat")
    painter["data"]["provider_id"] = "tavily"
    with pytest.raises(
        DocumentInvalid, match="tool 'tavily text_to_image' is not known; known tools: atelier/diffusion"
    ):
        graph_of(painter)


FILE = {"__artifact__": "1", "filename": "cat.png", "extension": ".png", "mime_type": "image/png", "sha256": "0"}
A_PICTURE = "a picture file (PNG, JPEG, WebP, GIF or BMP)"
PAPER = {**FILE, "filename": "cat.pdf", "mime_type": "application/pdf"}


@pytest.mark.parametrize(
    ("own", "given", "inputs"),
    [
        (IMAGE_TO_IMAGE, {"prompt": "a dog", "image": FILE}, {"image": FILE, "strength": 0.75}),
        (IMAGE_TO_IMAGE, {"prompt": "a dog", "image": [FILE], "strength": "0.4"}, {"image": FILE, "strength": 0.4}),
        (INPAINT, {"prompt": "a dog", "image": FILE, "mask": FILE}, {"mask": FILE, "strength": 1}),
        (TEXT_TO_IMAGE, {"prompt": "a dog", "control_image": FILE}, {"control_image": [FILE]}),
        (TEXT_TO_IMAGE, {"prompt": "a dog", "control_image": []}, {}),
        (UPSCALE, {"image": FILE}, {"image": FILE, "upscale": 2}),
        (UPSCALE, {"image": FILE, "format": "JPG", "quality": "50"}, {"format": "jpeg", "quality": 50}),
    ],
)
def test_a_picture_is_taken_as_a_file_or_as_a_list_of_one(own, given, inputs):
    taken = check_arguments(own, given)
    assert {name: taken[name] for name in inputs} == inputs


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"image": None}, "image is required"),
        ({"image": []}, "image is required"),
        ({"image": "cat.png"}, f"image must be {A_PICTURE}, got 'cat.png'"),
        (
            {"image": PAPER},
            "image must be a picture file (PNG, JPEG, WebP, GIF or BMP), got 'cat.pdf' (application/pdf)",
        ),
        ({"image": [FILE, FILE]}, f"image must be {A_PICTURE}, got 2 files: "),
        ({"image": FILE, "upscale": 9}, "upscale must be a number from 1 to 8, got 9"),
        ({"image": FILE, "quality": 0}, "quality must be an integer from 1 to 100, got 0"),
        ({"image": FILE, "format": "tiff"}, "format must be one of png, jpeg, webp, got 'tiff'"),
    ],
)
def test_what_is_no_picture_is_refused_by_the_parameters_name(given, text):
    with pytest.raises(InvalidParam) as refusal:
        check_arguments(UPSCALE, given)
    assert refusal.value.message.startswith(text)


NUMBERS = [(own, each) for own in OWN_IMAGE_TOOLS for each in own.parameters if each.minimum is not None]


@pytest.mark.parametrize(("own", "parameter"), NUMBERS, ids=lambda each: each.name)
def test_every_number_is_refused_outside_its_range(own, parameter):
    for given in (parameter.minimum - 8, parameter.maximum + 8):
        with pytest.raises(InvalidParam, match=f"^{parameter.name} must be an? (integer|number) from") as refusal:
            check_argument(parameter, given)
        assert refusal.value.params == parameter.name
    assert check_argument(parameter, parameter.maximum) == parameter.maximum


def test_our_own_tools_have_the_ids_that_difys_editor_writes():
    assert all(find_tool("atelier/diffusion/diffusion", own.name) is own for own in OWN_IMAGE_TOOLS)
    told = why_unknown("atelier/diffusion", "outpaint")
    assert "here are again, image_to_image, inpaint, keep_checkpoint, text_to_image, upscale" in told


def test_the_page_for_people_explains_every_parameter():
    page = (Path(__file__).parents[2] / "docs" / "image-tools.md").read_text()
    missing = {each.name for own in OWN_IMAGE_TOOLS for each in own.parameters if f"`{each.name}`" not in page}
    assert missing == set()
