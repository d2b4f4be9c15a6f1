"""Other names of the tools, and tools that can't be had here."""

from __future__ import annotations

from collections.abc import Mapping

SAME_AS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("openai", "dalle2"): ("dalle", "dalle2"),
    ("openai", "dalle3"): ("dalle", "dalle3"),
    ("dalle", "gpt_image_generate"): ("openai", "gpt_image_generate"),
    ("azuredalle", "dalle3"): ("azuredalle", "azure_dalle3"),
    ("azure_openai_tool", "image_generate"): ("azure_openai", "image_generate"),
    ("nano_banana", "text2image"): ("nano_banana2", "text2image"),
    ("qwen_text2image", "text2image"): ("modelscope", "text2image"),
    ("stepfun", "image"): ("stepfun", "stepfun"),
    ("stability", "text2image"): ("stability", "stability_text2image"),
}
"""Other names of the same tools, in (provider, tool)."""

_VIDEO = "it makes videos"
UNAVAILABLE: Mapping[tuple[str, str], str] = {
    ("audio", "asr"): "there are no speech models here",
    ("audio", "tts"): "there are no speech models here",
    ("code", "simple_code"): "a code node runs the same code",
    ("webscraper", "webscraper"): "an http-request node can fetch the page",
    ("comfyui", "img2any"): "it finds depths and swaps faces; Atelier's own upscale tool enlarges pictures",
    ("comfyui", "image_edit"): "it needs a model that follows orders; img2img or inpaint may do",
    ("comfyui", "img2vid"): _VIDEO,
    ("comfyui", "txt2vid"): _VIDEO,
    ("comfyui", "txt2aud"): "it makes sounds",
    ("comfyui", "list_info"): "it asks a ComfyUI server for its models; `atelier checkpoints` lists those here",
    ("comfyui", "download_by_url"): "it loads models; put them into the checkpoints folder instead",
    ("comfyui", "download_civitai"): "it loads models; put them into the checkpoints folder instead",
    ("comfyui", "download_huggingface"): "it loads models; put them into the checkpoints folder instead",
    ("siliconflow", "video_generate"): _VIDEO,
    ("novitaai", "novitaai_createtile"): "it makes tiles that repeat without a seam",
    ("novitaai", "novitaai_modelquery"): "it asks Novita for its models; `atelier checkpoints` lists those here",
    ("cogview", "cogvideo"): _VIDEO,
    ("cogview", "cogvideo_job"): _VIDEO,
    ("zhipuai", "cogvideo"): _VIDEO,
}
"""Tools that can't be had here, or not yet, with the reason that an author is told."""
