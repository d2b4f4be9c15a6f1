"""The diffusion engine: a request and a checkpoint's path in, pictures out. It knows no queue, database or HTTP.

    request       plain values in and out
    engine        the one door, called by any number of threads
    loop          its thread: begin → a UNet call for many → decode, and whose turn it is
    drawing       one request, from its prompt to its pixels
    checkpoint    one checkpoint's weights: in files, in memory, at work
    prompts       a prompt's brackets, chunks and embeddings → what steers
    loras         changed weights, put on and taken off
    pictures      pixels in and out of files, larger, in the making
    shapes        how the checkpoint that ships was made

Nothing here ever asks the network, and the libraries keep their advice to themselves: the variables are set before
anything can import them.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
