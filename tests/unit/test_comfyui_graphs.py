"""ComfyUI graphs, in the forms of its API and of its canvas, read into arguments."""

import json
import re

import pytest
from drawing import draw, end, node, start
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DocumentInvalid, InvalidParam
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.tools.comfyui import read_graph
from app.graph.tools.comfyui_tool import COMFYUI_GRAPH
from app.graph.tools.weighted import read_weighted
from app.graph.variables import VariablePool


def simple(**changed):
    """The graph that ComfyUI begins with, by node id; a node is changed by its inputs, or taken away by None."""
    graph = {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 156680208700286,
                "steps": 20,
                "cfg": 8,
                "sampler_name": "dpmpp_2m",
                "scheduler": "karras",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "SD/dream_v8.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 2}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a bottle", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blur", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }
    for key, inputs in changed.items():
        graph[key.removeprefix("n")]["inputs"].update(inputs)
    return graph


def read(graph, *prompts):
    return read_graph(json.dumps(graph), *prompts)


def refusal(graph):
    with pytest.raises(InvalidParam) as refused:
        read(graph)
    return refused.value.message


def test_the_graph_that_comfyui_begins_with():
    drawing = read(simple())
    assert drawing.arguments == {
        "seed": 156680208700286,
        "steps": 20,
        "guidance_scale": 8,
        "sampler": "dpmpp_2m",
        "spacing": "karras",
        "prompt": "a bottle",
        "negative_prompt": "blur",
        "width": 512,
        "height": 768,
        "n": 2,
    }
    assert (drawing.model, drawing.notes) == ("SD/dream_v8.safetensors", ())


def test_prompts_go_where_the_graph_has_places_for_them():
    graph = simple(n6={"text": "best, {{positive_prompt}}, 8k"}, n7={"text": "{{negative_prompt}}"})
    arguments = read(graph, 'a "cat"', None).arguments
    assert (arguments["prompt"], arguments["negative_prompt"]) == ('best, a "cat", 8k', "")


def test_without_places_prompts_are_the_samplers():
    assert read(simple(), "a cat", "").arguments["prompt"] == "a cat"
    assert read(simple(), "a cat", "").arguments["negative_prompt"] == "blur"
    assert read(simple(), "a cat", "mud").arguments["negative_prompt"] == "mud"


def test_control_characters_inside_its_texts_are_no_error():
    text = json.dumps(simple()).replace("a bottle", "a\nbottle\tof glass")
    assert read_graph(text).arguments["prompt"] == "a\nbottle\tof glass"


def test_values_come_from_nodes_that_only_give_them():
    graph = simple(n6={"text": ["20", 0]}, n3={"seed": ["21", 0], "steps": ["22", 0]})
    graph["20"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a dog"}}
    graph["21"] = {"class_type": "Seed (rgthree)", "inputs": {"seed": 5}}
    graph["22"] = {"class_type": "PrimitiveInt", "inputs": {"value": 9}}
    drawing = read(graph)
    assert [drawing.arguments[name] for name in ("prompt", "seed", "steps")] == ["a dog", 5, 9]
    assert drawing.notes == ()


def test_loras_and_clip_skip_are_taken_over_and_what_else_works_on_the_model_is_named():
    graph = simple(n3={"model": ["12", 0]}, n6={"clip": ["11", 0]})
    lora = {"lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5, "model": ["4", 0]}
    graph["10"] = {"class_type": "LoraLoader", "inputs": lora}
    graph["11"] = {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}}
    graph["12"] = {"class_type": "FreeU_V2", "inputs": {"b1": 1.3, "model": ["10", 0]}}
    drawing = read(graph)
    assert drawing.model == "SD/dream_v8.safetensors"
    assert (drawing.arguments["loras"], drawing.arguments["clip_skip"]) == ("<lora:ink.safetensors:0.5:0.8>", 2)
    assert drawing.notes == ("ComfyUI node '12' (FreeU_V2) has no effect here",)


def test_a_second_pass_on_larger_latents_is_taken_over():
    graph = simple(n8={"samples": ["11", 0]})
    graph["10"] = {"class_type": "LatentUpscale", "inputs": {"width": 1024, "height": 1536, "samples": ["3", 0]}}
    second = {**graph["3"]["inputs"], "latent_image": ["10", 0], "denoise": 0.5}
    graph["11"] = {"class_type": "KSampler", "inputs": second}
    drawing = read(graph)
    hires = {name: value for name, value in drawing.arguments.items() if "hires" in name}
    assert (drawing.arguments["width"], drawing.arguments["steps"], drawing.notes) == (512, 20, ())
    assert hires == {"hires_scale": 2, "hires_strength": 0.5, "hires_steps": 40, "hires_upscaler": "latent"}


def test_any_other_second_pass_is_left_out_and_named():
    graph = simple(n8={"samples": ["11", 0]})
    graph["11"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "latent_image": ["3", 0]}}
    assert read(graph).notes == ("ComfyUI node '11' (KSampler) has no effect here",)


FILE = {"__artifact__": "1", "filename": "a.png", "extension": ".png", "mime_type": "image/png", "sha256": "0"}
MASK = {**FILE, "filename": "mask.png"}


def from_picture(**sampler):
    """A graph that begins with a picture."""
    graph = simple(n3={"latent_image": ["11", 0], "denoise": 0.5, **sampler})
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    return graph


def painted(graph, **values):
    return COMFYUI_GRAPH.call({"workflow_json": json.dumps(graph), **values}).inputs


def test_a_graph_begins_with_the_picture_that_is_given():
    inputs = painted(from_picture(), images=[FILE])
    assert (inputs["image"], inputs["strength"], inputs["steps"]) == (FILE, 0.5, 40)
    assert "width" not in inputs


def test_a_picture_that_is_brought_to_a_size_is_painted_in_it():
    graph = from_picture()
    graph["11"]["inputs"]["pixels"] = ["12", 0]
    graph["12"] = {"class_type": "ImageScale", "inputs": {"width": 256, "height": 512, "image": ["10", 0]}}
    assert [painted(graph, images=FILE)[side] for side in ("width", "height")] == [256, 512]


@pytest.mark.parametrize(
    ("encoder", "inputs"),
    [
        ("VAEEncodeForInpaint", {"pixels": ["10", 0], "mask": ["20", 1], "grow_mask_by": 6}),
        ("SetLatentNoiseMask", {"samples": ["21", 0], "mask": ["22", 0]}),
    ],
)
def test_a_mask_is_taken_from_the_picture_that_it_is_loaded_from(encoder, inputs):
    graph = from_picture()
    graph["11"] = {"class_type": encoder, "inputs": inputs}
    graph["20"] = {"class_type": "LoadImageMask", "inputs": {"image": "mask.png", "channel": "alpha"}}
    graph["21"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0]}}
    graph["22"] = {"class_type": "GrowMask", "inputs": {"mask": ["20", 0]}}
    made = painted(graph, images=[FILE, MASK])
    assert (made["image"], made["mask"]) == (FILE, MASK)
    assert painted(graph, images=[MASK, FILE], image_ids="20, 10")["mask"] == MASK


def test_a_controlnet_follows_a_picture():
    graph = simple(n3={"positive": ["30", 0], "negative": ["30", 1]})
    between = {"strength": 0.7, "start_percent": 0, "end_percent": 0.5}
    wires = {"positive": ["6", 0], "negative": ["7", 0], "control_net": ["31", 0], "image": ["10", 0]}
    graph["30"] = {"class_type": "ControlNetApplyAdvanced", "inputs": {**wires, **between}}
    graph["31"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "canny.safetensors"}}
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    made = painted(graph, images=[FILE])
    assert (made["prompt"], made["negative_prompt"]) == ("a bottle", "blur")
    (net,) = read_weighted(made["control_net"], "control_net")
    assert (net.name, net.weight, made["control_image"], made["control_end"]) == (
        "canny.safetensors",
        0.7,
        [FILE],
        0.5,
    )


def test_a_textual_inversion_goes_by_its_name():
    graph = simple(n7={"text": "(embedding:bad-hands.pt:1.2), embedding:ugly, blur"})
    assert read(graph).arguments["negative_prompt"] == "(bad-hands:1.2), ugly, blur"


def test_an_autoencoder_of_its_own_is_taken_over():
    graph = simple(n8={"vae": ["12", 0]})
    graph["12"] = {"class_type": "VAELoader", "inputs": {"vae_name": "soft.safetensors"}}
    assert read(graph).arguments["vae"] == "soft.safetensors"


def test_a_picture_that_is_not_given_is_missed_by_its_node():
    with pytest.raises(InvalidParam, match="node '10' loads a picture, and 'images' gives it none"):
        painted(from_picture())
    with pytest.raises(DocumentInvalid, match="node '10' loads a picture, and 'images' gives it none"):
        asked(workflow(workflow_json=json.dumps(from_picture())))


def test_sdxl_with_a_refiner_is_painted_by_its_base():
    graph = simple()
    base = graph["3"]["inputs"]
    base["noise_seed"], base["end_at_step"] = base.pop("seed"), 20
    graph["3"]["class_type"] = "KSamplerAdvanced"
    graph["12"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "refiner.safetensors"}}
    refiner = {**base, "model": ["12", 0], "latent_image": ["3", 0], "start_at_step": 20}
    graph["11"] = {"class_type": "KSamplerAdvanced", "inputs": refiner}
    graph["8"]["inputs"]["samples"] = ["11", 0]
    assert (read(graph).model, read(graph).arguments["seed"]) == ("SD/dream_v8.safetensors", 156680208700286)


def test_a_flux_graph_has_its_settings_in_many_nodes():
    graph = {
        "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5", "clip_name2": "l"}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
        "13": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["25", 0],
                "guider": ["22", 0],
                "sampler": ["16", 0],
                "sigmas": ["17", 0],
                "latent_image": ["5", 0],
            },
        },
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 4, "model": ["12", 0]}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    }
    drawing = read(graph)
    assert drawing.model == "flux1-dev.safetensors"
    assert drawing.arguments == {
        "seed": 7,
        "steps": 4,
        "sampler": "euler",
        "spacing": "simple",
        "prompt": "a cat",
        "negative_prompt": "",
        "width": 1024,
        "height": 1024,
        "n": 1,
        "vae": "ae.safetensors",
    }
    assert drawing.notes == ("ComfyUI node '26' (FluxGuidance) has no effect here",)


def test_mixed_prompts_are_read_as_one():
    graph = simple(n3={"positive": ["10", 0]})
    graph["10"] = {
        "class_type": "ConditioningCombine",
        "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["7", 0]},
    }
    assert read(graph).arguments["prompt"] == "a bottle, blur"


def test_a_tangle_of_mixed_prompts_ends():
    graph = simple(n3={"positive": ["100", 0]})
    for number in range(100, 160):
        both = {"conditioning_1": [str(number + 1), 0], "conditioning_2": [str(number + 1), 0]}
        graph[str(number)] = {"class_type": "ConditioningCombine", "inputs": both}
    graph["160"] = graph["6"]
    assert read(graph).arguments["prompt"] == "a bottle"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"n5": {"width": ["9", 0]}},
            "ComfyUI node '9' (SaveImage) can't be run here, and 'width' of ComfyUI node '5'",
        ),
        ({"n3": {"latent_image": ["3", 0]}}, "is in a ring of links"),
        ({"n3": {"model": ["9", 0]}}, "the ComfyUI graph's sampler has no model"),
        ({"n3": {"model": None}}, "the ComfyUI graph's sampler has no model"),
        ({"n3": {"positive": None}}, "ComfyUI node '3' (KSampler) has no positive prompt"),
        ({"n3": {"latent_image": None}}, "ComfyUI node '3' (KSampler) can't be run here, and the size"),
        ({"n8": {"samples": None}}, "ComfyUI node '8' (VAEDecode) can't be run here, and the picture comes from it"),
    ],
)
def test_a_broken_graph_is_refused_by_its_node(changed, text):
    assert text in refusal(simple(**changed))


def test_a_picture_that_another_node_makes_is_refused_by_that_node():
    graph = from_picture()
    graph["11"]["inputs"]["pixels"] = ["12", 0]
    graph["12"] = {"class_type": "Canny", "inputs": {"image": ["10", 0]}}
    assert "ComfyUI node '12' (Canny) can't be run here, and 'pixels' of ComfyUI node '11'" in refusal(graph)


def test_a_node_of_somebody_else_is_refused_by_name():
    graph = simple(n9={"images": ["10", 0]})
    graph["10"] = {"class_type": "KSampler (Efficient)", "inputs": {"preset": 1}}
    assert "ComfyUI node '10' (KSampler (Efficient)) can't be run here" in refusal(graph)


def test_two_chains_are_one_too_many():
    graph = simple()
    graph["13"] = graph["3"]
    graph["18"] = {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0]}}
    graph["19"] = {"class_type": "SaveImage", "inputs": {"images": ["18", 0]}}
    assert "has 2 chains of samplers" in refusal(graph)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"a": 1}'])
def test_what_is_no_graph_is_refused(text):
    with pytest.raises(InvalidParam, match=re.compile("the Workflow JSON is not correct|saves no picture")):
        read_graph(text)


CANVAS = {
    "nodes": [
        {"id": 4, "type": "CheckpointLoaderSimple", "mode": 0, "inputs": [], "widgets_values": ["a.safetensors"]},
        {"id": 5, "type": "EmptyLatentImage", "mode": 0, "inputs": [], "widgets_values": [640, 512, 1]},
        {
            "id": 6,
            "type": "CLIPTextEncode",
            "mode": 0,
            "inputs": [{"name": "clip", "link": 3}],
            "widgets_values": ["a cat"],
        },
        {"id": 7, "type": "CLIPTextEncode", "mode": 0, "inputs": [], "widgets_values": ["mud"]},
        {
            "id": 10,
            "type": "LoraLoader",
            "mode": 4,
            "inputs": [{"name": "model", "link": 1}],
            "widgets_values": ["x"],
        },
        {
            "id": 3,
            "type": "KSampler",
            "mode": 0,
            "inputs": [
                {"name": "model", "link": 2},
                {"name": "positive", "link": 4},
                {"name": "negative", "link": 6},
                {"name": "latent_image", "link": 5},
            ],
            "widgets_values": [11, "randomize", 25, 6.5, "euler", "normal", 1],
        },
        {"id": 8, "type": "VAEDecode", "mode": 0, "inputs": [{"name": "samples", "link": 7}]},
        {"id": 11, "type": "Reroute", "mode": 0, "inputs": [{"name": "", "link": 9}]},
        {"id": 9, "type": "SaveImage", "mode": 0, "inputs": [{"name": "images", "link": 10}]},
        {"id": 12, "type": "Note", "mode": 0, "widgets_values": ["mine"]},
    ],
    "links": [
        [1, 4, 0, 10, 0, "MODEL"],
        [2, 10, 0, 3, 0, "MODEL"],
        [3, 4, 1, 6, 0, "CLIP"],
        [4, 6, 0, 3, 1, "CONDITIONING"],
        [5, 5, 0, 3, 3, "LATENT"],
        [6, 7, 0, 3, 2, "CONDITIONING"],
        [7, 3, 0, 8, 0, "LATENT"],
        [9, 8, 0, 11, 0, "*"],
        [10, 11, 0, 9, 0, "IMAGE"],
    ],
}


def test_the_form_of_the_canvas_is_read_too():
    drawing = read(CANVAS)
    assert (drawing.model, drawing.notes) == ("a.safetensors", ())
    assert drawing.arguments["prompt"] == "a cat"
    assert [drawing.arguments[name] for name in ("seed", "steps", "guidance_scale", "width")] == [11, 25, 6.5, 640]


def slots(value):
    """Every place of a JSON value: (what holds it, its key)."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from slots(inner)


ODD = [
    None,
    1,
    -5,
    1.5,
    "",
    "x",
    "{{positive_prompt}}",
    ["4", 0],
    ["3", 0],
    [4, 1],
    ["99", 0],
    [[1]],
    {},
    {"a": 1},
    10**30,
]
ODD += [
    "Reroute",
    "KSamplerAdvanced",
    "SamplerCustomAdvanced",
    "ConditioningCombine",
    "LoadImage",
    "VAEEncode",
    "LoraLoader",
    "ControlNetApply",
    True,
]


@given(
    st.sampled_from([simple(), CANVAS, from_picture()]),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(ODD)), max_size=6),
)
def test_whatever_a_graph_holds_it_is_painted_or_refused(graph, changes):
    graph = json.loads(json.dumps(graph))
    for place, value in changes:
        places = list(slots(graph))
        holder, key = places[place % len(places)]
        holder[key] = json.loads(json.dumps(value))
    try:
        call = COMFYUI_GRAPH.call({"workflow_json": json.dumps(graph), "images": [FILE]})
    except InvalidParam:
        return
    assert isinstance(call.inputs["prompt"], str)


def workflow(settings=None, **parameters):
    """A node of the ComfyUI tool."""
    return node(
        "paint",
        "tool",
        provider_id="comfyui",
        tool_name="workflow",
        tool_configurations=settings or {},
        tool_parameters={name: {"type": "mixed", "value": value} for name, value in parameters.items()},
    )


def asked(painter, **values):
    graph = load_graph(draw([start(), painter, end()], ["start > paint", "paint > end"]))
    return execute(graph.nodes["paint"], VariablePool.of({"start": values})).inputs


def test_the_old_tools_graph_is_painted_with_its_prompts_and_its_seed():
    settings = {"workflow_json": json.dumps(simple()), "image_ids": None, "seed_id": None}
    painted = asked(workflow(settings, positive_prompt="{{#start.what#}}"), what='a "big" cat')
    assert (painted["prompt"], painted["seed"]) == ('a "big" cat', 156680208700286)
    assert (painted["scheduler"], painted["asked_model"]) == ("dpmpp_2m_karras", "SD/dream_v8.safetensors")


def test_the_old_tool_draws_the_seed_that_is_named():
    settings = {"workflow_json": json.dumps(simple()), "seed_id": "3"}
    assert "seed" not in asked(workflow(settings, positive_prompt="a cat"))


def test_the_new_tool_draws_its_seed_unless_told_not_to():
    graph = json.dumps(simple())
    assert "seed" not in asked(workflow(workflow_json=graph))
    assert asked(workflow({"randomize_seed": False}, workflow_json=graph))["seed"] == 156680208700286


def test_references_inside_the_graph_are_filled_even_with_quotes():
    graph = json.dumps(simple(n6={"text": "{{#start.what#}}"}))
    painted = asked(workflow(workflow_json=graph), what='a "big"\ncat')
    assert painted["prompt"] == 'a "big"\ncat'


def test_a_graph_that_a_variable_holds_is_read_when_it_is_there():
    painter = workflow(workflow_json="{{#start.graph#}}")
    assert asked(painter, graph=json.dumps(simple()))["prompt"] == "a bottle"
    with pytest.raises(InvalidParam, match="the Workflow JSON is not correct"):
        asked(painter, graph="{")


def test_an_author_hears_of_a_graph_that_can_never_paint():
    with pytest.raises(DocumentInvalid, match="the ComfyUI graph saves no picture"):
        asked(workflow({"workflow_json": "{}"}, positive_prompt="a cat"))
