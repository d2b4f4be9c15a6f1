"""The one table of other people's image tools: their parameters, and what each is for our engine.

Names, defaults and sizes are those of the providers' plugins, old and new versions of a tool in one row: a document
may hold the parameters of either. `docs/image-tools.md` shows the table to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.graph.tools.comfyui_tool import BAD_ART, COMFYUI
from app.graph.tools.image_tool import ImageTool
from app.graph.tools.roles import (
    another_picture,
    file_format,
    file_quality,
    hires_by_comma,
    ignored,
    loras,
    loras_by_semicolon,
    mask,
    model,
    negative_prompt,
    picture,
    prompt,
    ratio,
    sampler,
    seed,
    seed_or_nothing,
    seed_or_zero,
    side,
    size,
    spacing,
    to,
    unheard,
    unless_zero,
)
from app.graph.tools.sketch import Size, Taken

_DALLE2: Mapping[str, Size] = {"small": (256, 256), "medium": (512, 512), "large": (1024, 1024)}
_DALLE3: Mapping[str, Size] = {"square": (1024, 1024), "vertical": (1024, 1792), "horizontal": (1792, 1024)}
_COGVIEW: Mapping[str, Size] = {
    "square": (1024, 1024),
    "cogview_3": (1024, 1024),
    "vertical": (1024, 1792),
    "horizontal": (1792, 1024),
    "vertical_768": (768, 1344),
    "vertical_864": (864, 1152),
    "horizontal_1344": (1344, 768),
    "horizontal_1152": (1152, 864),
    "widescreen_1440": (1440, 720),
    "tallscreen_720": (720, 1440),
}
_FAL: Mapping[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_K: Mapping[str, Size] = {"1K": (1024, 1024), "2K": (2048, 2048), "4K": (2048, 2048)}

_PROMPT = Taken("prompt", prompt, required=True)
_NEGATIVE = Taken("negative_prompt", negative_prompt)
_SEED = Taken("seed", seed)
_N = Taken("n", to("n"), 1)
_QUALITY = Taken("quality", unheard, "standard")
_STYLE = Taken("style", unheard, "vivid")
_MODEL = Taken("model", model)
_IMAGE = Taken("image", picture, required=True)
_COMPRESSION = Taken("output_compression", file_quality)


def _unheard(*names: str) -> Iterable[Taken]:
    return (Taken(name, unheard) for name in names)


def _ignored(*names: str) -> Iterable[Taken]:
    return (Taken(name, ignored) for name in names)


def _size(name: str, default: str, sizes: Mapping[str, Size]) -> Taken:
    """A size that has a name: Dify checks a plain setting against the names."""
    return Taken(name, size, default, sizes, options=tuple(sizes))


def _aspect(default: str, name: str = "aspect_ratio") -> Taken:
    return Taken(name, ratio, default)


_STABLE_DIFFUSION = (
    ImageTool(
        "stablediffusion",
        "stable_diffusion",
        (
            _PROMPT,
            Taken("negative_prompt", negative_prompt, BAD_ART),
            _MODEL,
            Taken("lora", loras),
            Taken("steps", to("steps"), 10),
            Taken("width", side("width"), 1024),
            Taken("height", side("height"), 1024),
            Taken("cfg_scale", to("guidance_scale"), 7),
            Taken("sampler_name", sampler, "DPM++ 2M"),
            Taken("sampler_index", sampler),
            Taken("scheduler", spacing),
            Taken("seed", seed),
            Taken("batch_size", to("n"), 1),
            Taken("image_id", picture),
        ),
    ),
    ImageTool(
        "novitaai",
        "novitaai_txt2img",
        (
            _PROMPT,
            _NEGATIVE,
            Taken("model_name", model),
            Taken("width", side("width"), 512),
            Taken("height", side("height"), 512),
            Taken("image_num", to("n"), 1),
            Taken("steps", to("steps"), 20),
            Taken("seed", seed, -1),
            Taken("guidance_scale", to("guidance_scale"), 7.5),
            Taken("sampler_name", sampler),
            Taken("loras", loras_by_semicolon),
            Taken("clip_skip", unless_zero("clip_skip")),
            Taken("sd_vae", to("vae")),
            Taken("response_image_type", file_format),
            Taken("hires_fix", hires_by_comma),
            *_unheard("embeddings", "refiner_switch_at"),
            *_ignored("enabled_enterprise_plan", "enable_nsfw_detection", "nsfw_detection_level"),
        ),
    ),
    ImageTool(
        "stability",
        "stability_text2image",
        (
            _PROMPT,
            Taken("negative_prompt", negative_prompt, BAD_ART),
            Taken("model", model, "sd3-turbo"),
            Taken("seeds", seed_or_zero, 0),
            Taken("seed", seed_or_zero),
            _aspect("16:9"),
        ),
    ),
    ImageTool(
        "getimgai",
        "text2image",
        (
            _PROMPT,
            _NEGATIVE,
            Taken("mode", model),
            _MODEL,
            _aspect("1:1"),
            Taken("width", side("width")),
            Taken("height", side("height")),
            Taken("steps", to("steps")),
            Taken("guidance", to("guidance_scale")),
            _SEED,
            Taken("scheduler", sampler),
            Taken("output_format", file_format),
            *_unheard("style", "prompt_2", "negative_prompt_2"),
            *_ignored("response_format"),
        ),
    ),
)

_OPENAI = (
    ImageTool("dalle", "dalle2", (_PROMPT, _size("size", "large", _DALLE2), _N), model="dall-e-2"),
    ImageTool(
        "dalle",
        "dalle3",
        (_PROMPT, _size("size", "square", _DALLE3), _N, _QUALITY, _STYLE, Taken("seed_id", seed_or_nothing)),
        model="dall-e-3",
    ),
    ImageTool(
        "azuredalle",
        "azure_dalle3",
        (_PROMPT, _size("size", "square", _DALLE3), _N, _QUALITY, _STYLE, Taken("seed_id", seed_or_nothing)),
        model="dall-e-3",
    ),
    ImageTool(
        "openai",
        "gpt_image_generate",
        (
            _PROMPT,
            Taken("model", model, "gpt-image-1"),
            Taken("size", size, "auto"),
            _N,
            Taken("output_format", file_format),
            *_unheard("quality", "background"),
            _COMPRESSION,
            *_ignored("moderation"),
        ),
    ),
    ImageTool(
        "openai",
        "gpt_image_2_generate",
        (
            _PROMPT,
            Taken("size", size, "auto"),
            _N,
            Taken("output_format", file_format),
            *_unheard("quality"),
            _COMPRESSION,
            *_ignored("moderation"),
        ),
        model="gpt-image-2",
    ),
    ImageTool(
        "azure_openai",
        "image_generate",
        (
            _PROMPT,
            Taken("size", size, "1024x1024"),
            Taken("custom_size", size),
            _N,
            Taken("output_format", file_format),
            Taken("quality", unheard, "high"),
            _COMPRESSION,
        ),
        model="gpt-image-1",
    ),
)


def _gpt_edit(provider: str, name: str, model_name: str, *more: Taken) -> ImageTool:
    """Without a mask all of the picture is painted anew."""
    common = (
        _PROMPT,
        _IMAGE,
        Taken("mask", mask),
        Taken("model", model, model_name),
        Taken("size", size, "auto"),
        _N,
        Taken("output_format", file_format),
        _COMPRESSION,
        *_unheard("quality", "background"),
        *_ignored("moderation", "input_fidelity"),
    )
    return ImageTool(provider, name, (*common, *more), follows_orders=True)


_EDITS = (
    _gpt_edit("openai", "gpt_image_edit", "gpt-image-1"),
    _gpt_edit("openai", "gpt_image_2_edit", "gpt-image-2"),
    _gpt_edit("azure_openai", "image_edit", "gpt-image-1", Taken("custom_size", size)),
    _gpt_edit("gpustack", "image_edit", "", _NEGATIVE, _SEED),
    ImageTool(
        "siliconflow",
        "image_edit",
        (
            _PROMPT,
            _IMAGE,
            *(Taken(name, another_picture) for name in ("image2", "image3")),
            Taken("model", model, "qwen_image_edit_2509"),
            Taken("num_inference_steps", to("steps"), 20),
            Taken("cfg", to("guidance_scale"), 4),
            _SEED,
        ),
        tells_images=True,
        follows_orders=True,
    ),
    ImageTool(
        "modelscope",
        "image2image",
        (_PROMPT, _NEGATIVE, _IMAGE, Taken("model", model, "Qwen/Qwen-Image-Edit"), Taken("size", size), _SEED),
        follows_orders=True,
    ),
    ImageTool(
        "fal",
        "clarity_upscaler",
        (
            Taken("prompt", prompt, "masterpiece, best quality, highres"),
            Taken("negative_prompt", negative_prompt, "(worst quality, low quality, normal quality:2)"),
            Taken("image_file", picture, required=True),
            Taken("image_url", unheard),
            Taken("upscale_factor", to("upscale"), 2),
            Taken("creativity", to("strength"), 0.35),
            Taken("guidance_scale", to("guidance_scale"), 4),
            Taken("num_inference_steps", to("steps"), 18),
            _SEED,
            *_ignored("resemblance", "enable_safety_checker"),
        ),
    ),
)

_SILICONFLOW = (
    ImageTool(
        "siliconflow",
        "image_generate",
        (
            _PROMPT,
            _NEGATIVE,
            Taken("model", model, "kolors"),
            Taken("image_size", size, "1024x1024"),
            Taken("batch_size", to("n"), 1),
            Taken("num_inference_steps", to("steps"), 20),
            Taken("guidance_scale", to("guidance_scale"), 7.5),
            Taken("cfg", unheard, 4),
            _SEED,
            Taken("image", picture),
        ),
        tells_images=True,
    ),
    ImageTool(
        "siliconflow",
        "flux",
        (
            _PROMPT,
            Taken("model", model, "schnell"),
            Taken("image_size", size, "1024x1024"),
            Taken("num_inference_steps", to("steps"), 20),
            _SEED,
        ),
        tells_images=True,
    ),
    ImageTool(
        "siliconflow",
        "stable_diffusion",
        (
            _PROMPT,
            _NEGATIVE,
            Taken("model", model, "sd_3"),
            Taken("image_size", size, "1024x1024"),
            Taken("batch_size", to("n"), 1),
            Taken("guidance_scale", to("guidance_scale"), 7.5),
            Taken("num_inference_steps", to("steps"), 20),
            _SEED,
        ),
        tells_images=True,
    ),
    ImageTool(
        "siliconflow", "Janus-Pro-7B", (_PROMPT, Taken("model", model, "Janus-Pro-7B"), _SEED), tells_images=True
    ),
)


def _flux(name: str, *more: Taken) -> ImageTool:
    common = (_PROMPT, _SEED, Taken("num_images", to("n"), 1))
    quiet = _ignored("safety_tolerance", "enable_safety_checker", "sync_mode", "raw")
    return ImageTool("fal", name, (*common, *more, *quiet), model=name.replace("_", "-"), tells_images=True)


_FAL_SIZE = _size("image_size", "landscape_4_3", _FAL)
_FAL_STEPS = (Taken("num_inference_steps", to("steps"), 28), Taken("guidance_scale", to("guidance_scale"), 3.5))
_FLUX = (
    _flux("flux_1_dev", _FAL_SIZE, *_FAL_STEPS),
    _flux("flux_1_pro_new", _FAL_SIZE, *_FAL_STEPS),
    _flux("flux_1_1_pro", _FAL_SIZE),
    _flux("flux_1_1_pro_ultra", _aspect("16:9")),
)

_WATERMARK = Taken("watermark", ignored)
_OTHERS = (
    ImageTool(
        "cogview",
        "cogview3",
        (_PROMPT, _size("size", "square", _COGVIEW), _N, _QUALITY, _STYLE, Taken("seed_id", seed_or_nothing)),
        model="cogview-3",
    ),
    ImageTool(
        "zhipuai",
        "cogview",
        (_PROMPT, Taken("model", model, "cogview-3-flash"), Taken("size", size, "1024x1024")),
    ),
    ImageTool(
        "stepfun",
        "stepfun",
        (
            _PROMPT,
            Taken("size", size, "1024x1024"),
            _N,
            Taken("seed", seed, 10),
            Taken("steps", to("steps"), 50),
            Taken("cfg_scale", to("guidance_scale"), 7.5),
        ),
    ),
    ImageTool(
        "gitee_ai",
        "text-to-image",
        (
            Taken("inputs", prompt, required=True),
            Taken("model", model, "FLUX.1-dev"),
            Taken("width", side("width"), 720),
            Taken("height", side("height"), 720),
        ),
    ),
    ImageTool(
        "ernie_image",
        "ernie_image",
        (
            _PROMPT,
            Taken("model", model, "ernie-image-turbo"),
            Taken("size", size, "1024x1024"),
            _N,
            _SEED,
            _WATERMARK,
        ),
    ),
    ImageTool("spark", "spark_img_generation", (_PROMPT,), model="spark"),
    ImageTool(
        "gemini_image",
        "image_generate",
        (
            _PROMPT,
            Taken("images", picture),
            Taken("model", model, "gemini-2.5-flash-image"),
            Taken("aspect_ratio", ratio),
            Taken("resolution", unheard),
        ),
    ),
    ImageTool(
        "gpustack",
        "text2image",
        (
            _PROMPT,
            _NEGATIVE,
            _MODEL,
            Taken("size", size, "512x512"),
            _N,
            Taken("cfg_scale", to("guidance_scale"), 4.5),
            Taken("sample_method", sampler, "euler"),
            Taken("schedule_method", spacing, "discrete"),
            Taken("sampling_steps", to("steps"), 20),
            _SEED,
            *_ignored("guidance", "timeout"),
        ),
    ),
    ImageTool(
        "modelscope",
        "text2image",
        (_PROMPT, _NEGATIVE, Taken("model", model, "Qwen/Qwen-Image"), Taken("size", size), _SEED),
    ),
    ImageTool(
        "nano_banana2",
        "text2image",
        (
            _PROMPT,
            _NEGATIVE,
            Taken("model", model, "nano-banana"),
            Taken("aspect_ratio", ratio),
            Taken("num_images", to("n"), 1),
            Taken("style", unheard),
            *_ignored("temperature", "api_provider"),
        ),
    ),
    ImageTool(
        "doubao",
        "text2image",
        (_PROMPT, Taken("model", model, "doubao-seedream"), Taken("size", size, "1024x1024", _K), _SEED, _WATERMARK),
    ),
)


def _aihubmix(name: str, *more: Taken) -> ImageTool:
    common = (
        _PROMPT,
        Taken("model", model),
        Taken("num_images", to("n"), 1),
        Taken("image_format", file_format),
        Taken("generation_mode", unheard, "text_to_image"),
        *(Taken(name, another_picture) for name in ("reference_image", "reference_images", "refer_image", "image")),
    )
    quiet = _ignored("watermark", "response_format", "moderation_level", "image_strength", "stream", "thinking_mode")
    return ImageTool("aihubmix_image", name, (*common, *more, *quiet), model=name)


def _aihubmix_edit(name: str, *more: Taken) -> ImageTool:
    quiet = _ignored("watermark", "response_format", "extra")
    common = (_PROMPT, _MODEL, Taken("n", to("n"), 1), Taken("size", size), *more, *quiet)
    return ImageTool("aihubmix_image", name, common, model=name, follows_orders=True)


_RESOLUTION = Taken("resolution", size, "1024x1024")
_AIHUBMIX = (
    _aihubmix("qwen-image", _RESOLUTION),
    _aihubmix("gpt-image", _RESOLUTION),
    _aihubmix("flux-kontext", _RESOLUTION),
    _aihubmix("ernie-irag", _RESOLUTION, Taken("guidance", to("guidance_scale"), 7.5)),
    _aihubmix("glm-image", Taken("size", size, "1280x1280"), Taken("quality", ignored)),
    _aihubmix("imagen", _aspect("1:1")),
    _aihubmix("ideogram", _aspect("1:1"), Taken("rendering_speed", ignored)),
    _aihubmix("gemini-3-pro-image-preview", _aspect("1:1"), *_ignored("resolution", "use_google_search")),
    _aihubmix("gemini-3-1-flash-lite-image", _aspect("1:1"), *_ignored("resolution")),
    _aihubmix("wan", Taken("size", size, "2K", _K), _N, _SEED),
    _aihubmix("mai-image"),
    _aihubmix(
        "doubao",
        Taken("size", size, "2K", _K),
        *_unheard("sequential_image_generation"),
        *_ignored("max_sequential_images"),
    ),
    _aihubmix("doubao-seedream-5-pro", Taken("size", size, "2K", _K)),
    _aihubmix_edit("gpt-image-edit", _IMAGE, Taken("mask", mask)),
    _aihubmix_edit("qwen-image-edit", _IMAGE, Taken("guidance", to("guidance_scale"), 7.5)),
    _aihubmix_edit("ernie-irag-edit", _IMAGE, Taken("guidance", to("guidance_scale"), 7.5)),
    _aihubmix_edit(
        "image-edit",
        Taken("images", picture, required=True),
        Taken("mask", mask),
        Taken("aspect_ratio", ratio),
        Taken("output_format", file_format),
        _SEED,
        _NEGATIVE,
    ),
)

IMAGE_TOOLS = (
    *_STABLE_DIFFUSION,
    *COMFYUI,
    *_OPENAI,
    *_EDITS,
    *_SILICONFLOW,
    *_FLUX,
    *_OTHERS,
    *_AIHUBMIX,
)
