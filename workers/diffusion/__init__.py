"""The diffusion engine: a request and a checkpoint's path in, pictures out. It knows no queue, database or HTTP.

    request       plain values in and out
    loading       a checkpoint's files → its modules (parts: where each lies · names, open_clip: original key names ·
                  tokenizer: words → ids)
    residency     which checkpoints are in memory (memory: how it comes back)
    pipeline      encode the prompt → denoise (denoiser, schedulers) → decode
    png           the picture with its settings written into it
    engine        the one door

Nothing here ever asks the network: the two variables are set before anything can import `huggingface_hub`.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
