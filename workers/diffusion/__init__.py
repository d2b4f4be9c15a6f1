"""The diffusion engine: a request and a checkpoint's path in, pictures out. It knows no queue, database or HTTP.

    request       plain values in and out
    engine        the one door (ticket: what the caller's thread and the engine's tell each other)
    engine_loop   the engine's thread: begin → a UNet call → decode, again and again
    turns         whose turn it is · groups: the drawings that share a call · curve: how many it should have
    painting      one request: encode the prompt → its drawings' passes → decode
    passes        one pass: how its drawings begin (beginnings: noise, or a picture under some) and what holds them
    denoiser      one drawing's way, and a UNet call for many (schedulers: sampler names · conditioning: what steers)
    pipeline      one checkpoint's modules at work (tiling: large pictures · controls: ControlNets in a shared batch)
    prompts       a prompt's brackets, chunks and embeddings → what steers (remembered: the last ones)
    dressing      LoRAs on and off (loras: files → changed weights · low_rank: how one changes · wardrobe: by pointer)
    residency     which checkpoints are in memory (memory: how it comes back · sharing: equal weights once)
    loading       a checkpoint's files → its modules (parts: where each lies · reading: files of them · tokenizer:
                  words → ids · names, open_clip: original key names)
    given         the pictures that come with a request (images: files ↔ arrays, masks)
    upscalers     larger pictures · previews: what a drawing will look like (tensors: the weights of a small file)
    files         the picture as PNG, JPEG or WebP, with its settings written into it

Nothing here ever asks the network: the two variables are set before anything can import `huggingface_hub`.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
