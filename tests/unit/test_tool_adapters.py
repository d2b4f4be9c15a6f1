"""Other people's image tools, as documents hold them, turned into calls of our own."""

from pathlib import Path

import pytest
from drawing import draw, end, node, start
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DocumentInvalid, InvalidParam
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.nodes.tool import ToolCall
from app.graph.tools import find_tool
from app.graph.tools.names import SAME_AS, UNAVAILABLE
from app.graph.tools.providers import IMAGE_TOOLS
from app.graph.tools.weighted import read_weighted
from app.graph.variables import VariablePool

BAD_ART = "bad art, ugly, deformed, watermark, duplicated, discontinuous lines"


def call(provider, tool, settings=None, typed=False, **parameters):
    """A node of the provider's tool; `typed`: in the newer form."""
    parameters = {name: {"type": "mixed", "value": value} for name, value in parameters.items()}
    marks = {"tool_node_version": "2"} if typed else {}
    return node(
        "paint",
        "tool",
        provider_id=provider,
        provider_type="builtin",
        tool_name=tool,
        tool_configurations=settings or {},
        tool_parameters=parameters,
        **marks,
    )


def graph_of(painter):
    return load_graph(draw([start(), painter, end()], ["start > paint", "paint > end"]))


def asked(painter, **values):
    """What the worker is asked for, without what every call has."""
    return execute(graph_of(painter).nodes["paint"], VariablePool.of({"start": values})).inputs


def left_out(painter, **values):
    return execute(graph_of(painter).nodes["paint"], VariablePool.of({"start": values})).arguments.get("left_out", ())


def problems(painter):
    with pytest.raises(DocumentInvalid) as refusal:
        graph_of(painter)
    return refusal.value.problems


def warnings(painter):
    return [str(warning) for warning in graph_of(painter).warnings]


def test_automatic1111_paints_with_its_own_defaults():
    painter = call("langgenius/stablediffusion/stablediffusion", "stable_diffusion", prompt="a cat")
    assert asked(painter) == {
        "prompt": "a cat",
        "negative_prompt": BAD_ART,
        "steps": 10,
        "width": 1024,
        "height": 1024,
        "guidance_scale": 7,
        "n": 1,
        "scheduler": "dpmpp_2m",
    }


def test_both_forms_of_a_node_say_the_same():
    plain = {"model": "dosmix_", "steps": "5", "width": 512, "height": "768", "negative_prompt": "blur", "lora": ""}
    typed = {name: {"type": "constant", "value": value} for name, value in plain.items()}
    first = asked(call("stablediffusion", "stable_diffusion", plain, prompt="a {{#start.what#}}"), what="cat")
    second = asked(call("stablediffusion", "stable_diffusion", typed, True, prompt="a {{#start.what#}}"), what="cat")
    assert first == second
    assert (first["asked_model"], first["steps"], first["height"]) == ("dosmix_", 5, 768)


@pytest.mark.parametrize("nothing", [None, {"type": "mixed", "value": None}, {"type": "variable", "value": []}])
def test_a_setting_that_says_nothing_has_its_default(nothing):
    painter = call("stablediffusion", "stable_diffusion", {"width": nothing, "model": nothing}, True, prompt="a cat")
    assert asked(painter)["width"] == 1024
    assert "asked_model" not in asked(painter)


def test_an_empty_plain_setting_has_its_default_and_an_empty_typed_one_is_meant():
    empty = {"negative_prompt": ""}
    assert asked(call("stablediffusion", "stable_diffusion", empty, prompt="a"))["negative_prompt"] == BAD_ART
    assert asked(call("stablediffusion", "stable_diffusion", empty, True, prompt="a"))["negative_prompt"] == ""


@pytest.mark.parametrize(
    ("provider", "tool", "settings", "loras"),
    [
        ("stablediffusion", "stable_diffusion", {"lora": "<lora:ink:0.8>"}, [("ink", 0.8)]),
        ("stablediffusion", "stable_diffusion", {"lora": "ink"}, [("ink", None)]),
        ("novitaai", "novitaai_txt2img", {"loras": "ink_5,0.5; fog,1"}, [("ink_5", 0.5), ("fog", 1)]),
        (
            "comfyui",
            "txt2img",
            {"loras": "ink.safetensors, fog", "lora_strengths": "0.5"},
            [("ink.safetensors", 0.5), ("fog", None)],
        ),
        (
            "comfyui",
            "txt2img",
            {"lora_1": "ink", "lora_3": "fog", "lora_strength_3": 0.2},
            [("ink", None), ("fog", 0.2)],
        ),
    ],
)
def test_loras_are_taken_as_each_provider_writes_them(provider, tool, settings, loras):
    painted = asked(call(provider, tool, settings, prompt="<lora:pixel:0.8>, a cat"))
    assert [(each.name, each.weight) for each in read_weighted(painted["loras"], "loras")] == loras
    assert painted["prompt"] == "<lora:pixel:0.8>, a cat"  # what it names is found when the run begins


FILE = {"__artifact__": "1", "filename": "cat.png", "extension": ".png", "mime_type": "image/png", "sha256": "0"}


def given_file(provider, tool, name, settings=None, **parameters):
    painter = call(provider, tool, settings, prompt="a cat", **parameters)
    painter["data"]["tool_parameters"][name] = {"type": "variable", "value": ["start", name]}
    return painter


@pytest.mark.parametrize(
    ("provider", "tool", "name", "strength"),
    [
        ("comfyui", "img2img", "images", 0.8),
        ("langgenius/openai_tool/openai", "gpt_image_edit", "image", 0.75),
        ("langgenius/siliconflow_tool/siliconflow", "image_generate", "image", 0.75),
        ("gemini_image", "image_generate", "images", 0.75),
        ("langgenius/aihubmix_image/aihubmix_image", "image-edit", "images", 0.75),
        ("langgenius/fal/fal", "clarity_upscaler", "image_file", 0.35),
    ],
)
def test_a_given_picture_is_painted_anew(provider, tool, name, strength):
    painted = asked(given_file(provider, tool, name), **{name: [FILE]})
    assert (painted["image"], painted["strength"]) == (FILE, strength)


def test_an_edit_with_a_mask_changes_nothing_else():
    painter = given_file("openai", "gpt_image_edit", "image", {"size": "1024x1536"})
    painter["data"]["tool_parameters"]["mask"] = {"type": "variable", "value": ["start", "mask"]}
    painted = asked(painter, image=[FILE], mask=FILE)
    assert (painted["mask"], painted["strength"], painted["height"]) == (FILE, 1, 1536)
    assert any("orders are not understood" in warning for warning in warnings(painter))


@pytest.mark.parametrize("nothing", [None, []])
def test_an_edit_without_a_picture_is_refused(nothing):
    with pytest.raises(InvalidParam, match=r"^image is required$"):
        asked(given_file("openai", "gpt_image_edit", "image"), image=nothing)


def test_of_several_pictures_the_first_is_painted_anew():
    painter = given_file("gemini_image", "image_generate", "images")
    assert asked(painter, images=[FILE, FILE])["image"] == FILE
    assert left_out(painter, images=[FILE, FILE]) == ("images: the first of 2 pictures is painted anew",)
    assert "image" not in asked(painter, images=[])


@pytest.mark.parametrize("written", ["{{#start.image#}}", "{{#start.image.url#}}"])
def test_a_picture_may_be_written_as_its_address(written):
    painter = call("siliconflow", "image_edit", prompt="a cat", image=written)
    assert asked(painter, image=FILE)["image"] == FILE
    painter["data"]["tool_parameters"]["image"] = {"type": "variable", "value": ["start", "image", "url"]}
    assert asked(painter, image=FILE)["image"] == FILE


@pytest.mark.parametrize("given", ["https://x.example/a.png", ["https://x.example/a.png"], "iVBORw0KGgo"])
def test_a_picture_that_is_no_file_is_refused(given):
    with pytest.raises(InvalidParam, match="images takes a picture file of the workflow; addresses are not fetched"):
        asked(given_file("gemini_image", "image_generate", "images"), images=given)


def test_comfyui_paints_all_the_steps_that_it_is_given():
    painted = asked(given_file("comfyui", "img2img", "images", {"steps": 20, "denoise": 0.5}), images=[FILE])
    assert (painted["steps"], painted["strength"]) == (40, 0.5)


def test_a_second_pass_of_comfyui_begins_small():
    hires = {"hiresfix_upscale_method": "bilinear", "hiresfix_size_ratio": 0.5, "width": 1024, "height": 768}
    painted = asked(call("comfyui", "txt2img", hires, prompt="a cat"))
    assert (painted["width"], painted["height"], painted["hires_scale"]) == (512, 384, 2)
    assert (painted["hires_strength"], painted["hires_upscaler"]) == (0.6, "latent")
    plain = asked(call("comfyui", "txt2img", prompt="a cat"))
    assert not [name for name in plain if "hires" in name]


def test_novita_says_how_large_the_second_pass_is():
    hires = {"hires_fix": "1024,1024,0.4", "width": 512, "clip_skip": 0}
    painted = asked(call("novitaai", "novitaai_txt2img", hires, prompt="a cat"))
    assert (painted["width"], painted["hires_scale"], painted["hires_strength"]) == (512, 2, 0.4)
    assert "clip_skip" not in painted
    (problem,) = problems(call("novitaai", "novitaai_txt2img", {"hires_fix": "1024"}, prompt="a cat"))
    assert "hires_fix must be width,height,strength, got '1024'" in problem


def test_the_files_format_is_as_asked():
    settings = {"output_format": "webp", "output_compression": 0}
    painted = asked(call("openai", "gpt_image_generate", settings, prompt="a cat"))
    assert (painted["format"], painted["quality"]) == ("webp", 1)
    assert "format" not in asked(call("openai", "gpt_image_generate", {"output_format": "auto"}, prompt="a cat"))


@pytest.mark.parametrize(
    ("provider", "tool", "settings", "size"),
    [
        ("dalle", "dalle2", {"size": "small"}, (256, 256)),
        ("langgenius/dalle/dalle", "dalle3", {"size": "vertical"}, (1024, 1792)),
        ("langgenius/openai_tool/openai", "dalle3", {"size": "horizontal"}, (1792, 1024)),
        ("langgenius/openai_tool/openai", "gpt_image_generate", {"size": "1536x1024"}, (1536, 1024)),
        ("langgenius/openai_tool/openai", "gpt_image_generate", {"size": "auto"}, (None, None)),
        ("langgenius/azuredalle/azuredalle", "azure_dalle3", {}, (1024, 1024)),
        ("siliconflow", "flux", {"image_size": "576x1024"}, (576, 1024)),
        ("langgenius/siliconflow_tool/siliconflow", "image_generate", {"image_size": "1472x1140"}, (1472, 1136)),
        ("cogview", "cogview3", {"size": "widescreen_1440"}, (1440, 720)),
        ("langgenius/zhipuai_tool/zhipuai", "cogview", {"size": "768x1344"}, (768, 1344)),
        ("langgenius/fal/fal", "flux_1_dev", {}, (1024, 768)),
        ("langgenius/fal/fal", "flux_1_1_pro", {"image_size": "portrait_16_9"}, (576, 1024)),
        ("stepfun", "stepfun", {"size": "1280x800"}, (1280, 800)),
        ("langgenius/novitaai/novitaai", "novitaai_txt2img", {"width": 640, "height": "1025"}, (640, 1024)),
        ("allenwriter/doubao_image/doubao", "text2image", {"size": "1024x1024", "model": "x"}, (1024, 1024)),
        ("comfyui", "txt2img", {"width": 512, "model": "a.safetensors", "model_type": "SD15"}, (512, 1024)),
    ],
)
def test_a_size_by_name_is_pixels(provider, tool, settings, size):
    painted = asked(call(provider, tool, settings, prompt="a cat"))
    assert (painted.get("width"), painted.get("height")) == size


def test_an_aspect_ratio_is_settled_when_the_checkpoint_is_known():
    painted = asked(call("langgenius/stability/stability", "stability_text2image", prompt="a cat"))
    assert (painted["aspect_ratio"], "width" in painted, painted["asked_model"]) == ("16:9", False, "sd3-turbo")


@pytest.mark.parametrize("ratio", ["4:0", "0:0", "0:4", "5:1", "1:5", "wide", "1:1:1"])
def test_a_ratio_that_is_none_is_refused(ratio):
    settings = {"aspect_ratio": {"type": "constant", "value": ratio}}
    (problem,) = problems(call("stability", "stability_text2image", settings, True, prompt="a"))
    assert "aspect_ratio must be one of" in problem


def test_another_name_for_the_prompt_is_the_prompt():
    assert asked(call("gitee_ai", "text-to-image", inputs="a cat"))["prompt"] == "a cat"


@pytest.mark.parametrize(("given", "taken"), [(9999999999, 9999999999), (2**64 - 1, 2**53 - 1), ("7", 7)])
def test_a_wider_seed_is_folded(given, taken):
    assert asked(call("siliconflow", "flux", {"seed": given}, prompt="a"))["seed"] == taken


@pytest.mark.parametrize(
    ("provider", "tool", "settings"),
    [("stability", "stability_text2image", {"seeds": 0}), ("novitaai", "novitaai_txt2img", {"seed": -1})],
)
def test_a_seed_that_means_any_is_drawn(provider, tool, settings):
    assert "seed" not in asked(call(provider, tool, settings, prompt="a"))


@pytest.mark.parametrize(
    ("name", "spacing", "scheduler", "is_same"),
    [
        ("DPM++ 2M Karras", None, "dpmpp_2m_karras", True),
        ("dpmpp_2m", "karras", "dpmpp_2m_karras", True),
        ("dpmpp_2m", "normal", "dpmpp_2m", True),
        ("euler_ancestral", "simple", "euler_a", True),
        ("Euler a", None, "euler_a", True),
        ("DPM++ SDE Karras", None, "dpmpp_sde_karras", True),
        ("DPM++ 2M SDE Polyexponential", None, "dpmpp_2m_sde_exponential", True),
        ("dpmpp_3m_sde_gpu", "exponential", "dpmpp_3m_sde_exponential", True),
        ("euler", "sgm_uniform", "euler_sgm_uniform", True),
        ("euler", "kl_optimal", "euler", False),
        ("dpm_2_ancestral", "simple", "dpm2_a", True),
        ("DPM++ 2S a", None, "dpmpp_sde", False),
        ("uni_pc_bh2", "normal", "unipc", True),
    ],
)
def test_a_sampler_goes_by_the_names_of_others(name, spacing, scheduler, is_same):
    painter = call("comfyui", "txt2img", {"sampler_name": name, "scheduler": spacing}, prompt="a cat")
    assert asked(painter)["scheduler"] == scheduler
    assert (not left_out(painter)) is is_same


@pytest.mark.parametrize(
    ("painter", "problem"),
    [
        (call("dalle", "dalle3"), "'prompt' of dalle3 is required"),
        (
            call("dalle", "dalle3", {"size": "round"}, prompt="a"),
            "tool parameter size value round not in options ['square', 'vertical', 'horizontal']",
        ),
        (call("dalle", "dalle2", {"n": 11}, prompt="a"), "n must be an integer from 1 to 10, got 11"),
        (
            call("stablediffusion", "stable_diffusion", {"steps": 0}, prompt="a"),
            "steps must be an integer from 1 to 150, got 0",
        ),
        (call("comfyui", "txt2img", {"sampler_name": "magic"}, prompt="a"), "Sampler magic does not exist."),
        (
            call("siliconflow", "image_generate", {"image": "https://x.example/a.png"}, prompt="a"),
            "image takes a picture file of the workflow; addresses are not fetched, got 'https://x.example/a.png'",
        ),
        (call("comfyui", "img2img", prompt="a"), "'images' of img2img is required"),
        (call("comfyui", "img2any", prompt="a"), "tool 'comfyui img2any' can't be run here: it finds depths"),
        (call("langgenius/comfyui/comfyui", "txt2vid", prompt="a"), "can't be run here: it makes videos"),
        (call("siliconflow", "painter", prompt="a"), "is not known; siliconflow's here are Janus-Pro-7B, flux"),
        (call("tavily", "tavily_search", query="a"), "an http-request or code node can do what it did"),
    ],
)
def test_what_can_never_work_is_named_at_import(painter, problem):
    assert any(problem in line for line in problems(painter)), problems(painter)


def test_all_that_is_wrong_is_named_at_once():
    painter = call("novitaai", "novitaai_txt2img", {"steps": 0, "width": 9000, "sampler_name": "magic"}, prompt="a")
    assert len(problems(painter)) == 3


@pytest.mark.parametrize(
    ("painter", "warning"),
    [
        (call("dalle", "dalle3", {"quality": "hd"}, prompt="a"), "quality 'hd' has no effect here"),
        (call("dalle", "dalle3", {"colour": "red"}, prompt="a"), "'colour' is no parameter of dalle3"),
        (call("novitaai", "novitaai_txt2img", {"width": 513}, prompt="a"), "513 pixels become 512"),
    ],
)
def test_what_is_painted_otherwise_is_a_warning(painter, warning):
    assert any(warning in line for line in warnings(painter)), warnings(painter)


def test_a_value_that_comes_at_run_time_is_checked_then_in_the_tools_own_words():
    painter = call("novitaai", "novitaai_txt2img", prompt="a")
    painter["data"]["tool_configurations"] = {"image_num": {"type": "variable", "value": ["start", "n"]}}
    assert asked(painter, n="3")["n"] == 3
    with pytest.raises(InvalidParam, match=r"^image_num must be an integer from 1 to 10, got 20$"):
        asked(painter, n=20)


@pytest.mark.parametrize("tool", IMAGE_TOOLS, ids=lambda tool: f"{tool.provider}-{tool.name}")
def test_every_tool_of_the_table_paints_from_a_prompt_and_the_picture_that_it_needs(tool):
    required = {each.name for each in tool.parameters if each.required}
    words = {name: "a cat" for name in ("prompt", "inputs") if name in required}
    pictures = dict.fromkeys(required - words.keys(), FILE)
    painted = tool.call({**words, **pictures})
    assert painted.inputs["prompt"]
    assert ("image" in painted.inputs) is bool(pictures)
    assert "left_out" not in painted.arguments


ODD = st.sampled_from(
    [None, "", "x", 0, -1, 10**30, 1.5, "1024x1024", "16:9", "0:0", [], ["start", "x"], {}, {"value": []}, True]
)


@given(st.sampled_from(IMAGE_TOOLS), st.data(), st.booleans())
def test_whatever_a_node_holds_it_is_painted_or_refused(tool, data, typed):
    settings = {parameter.name: data.draw(ODD) for parameter in tool.parameters if not parameter.required}
    try:
        graph = graph_of(call(tool.provider, tool.name, settings, typed, **dict.fromkeys(tool.required, "a cat")))
        execute(graph.nodes["paint"], VariablePool.of({"start": {"x": data.draw(ODD)}}))
    except (DocumentInvalid, InvalidParam):
        return


def test_other_names_lead_to_tools_of_the_table():
    assert all(find_tool(provider, name) for provider, name in (*SAME_AS, *SAME_AS.values()))
    assert not any(find_tool(provider, name) for provider, name in UNAVAILABLE)


def test_dates_and_times_are_for_a_worker_with_a_clock():
    painter = call("time", "current_time", {"format": "%Y"})
    made = execute(graph_of(painter).nodes["paint"], VariablePool.of({}))
    assert (made.work_class, made.inputs) == ("cpu", {"format": "%Y", "timezone": "UTC"})


def test_a_run_is_told_which_tool_it_was():
    painter = call("langgenius/dalle/dalle", "dalle3", prompt="a cat")
    painter["data"]["plugin_unique_identifier"] = "langgenius/dalle:0.0.1@sha"
    work = graph_of(painter).nodes["paint"].work
    assert isinstance(work, ToolCall)
    assert work.info == {
        "provider_type": "builtin",
        "provider_id": "langgenius/dalle/dalle",
        "plugin_unique_identifier": "langgenius/dalle:0.0.1@sha",
    }


def test_the_page_for_people_names_every_tool():
    page = (Path(__file__).parents[2] / "docs" / "image-tools.md").read_text()
    missing = [tool for tool in IMAGE_TOOLS if f"`{tool.provider}`" not in page or f"`{tool.name}`" not in page]
    assert missing == []
