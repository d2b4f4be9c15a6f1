"""What the device can't do at the first try is tried once more in another way; then the reason is told."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from app.errors import CheckpointUnavailable, NodeFailed, OutOfMemory
from workers.diffusion.engine import Engine
from workers.diffusion.memory import is_out_of_memory, shortage
from workers.diffusion.request import StopRequested


@pytest.fixture
def half():
    """An engine in half precision."""
    engine = Engine(device="cpu")
    engine.dtype = torch.bfloat16
    yield engine
    engine.close()


def unet_of(engine, weights):
    return engine.residency.pipeline(weights).components.unet


def png(colour, width, height) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(content, "PNG")
    return content.getvalue()


def overflow(module, given, answer):
    return (answer[0] * float("nan"),)


def test_latents_that_overflow_in_half_precision_are_painted_again_in_full(half, engine, ask):
    request = ask(steps=2)
    unet_of(half, request.weights).register_forward_hook(overflow)
    painted, alone = half.paint(request), engine.paint(request)
    assert painted.images[0].content == alone.images[0].content


def test_who_comes_later_has_full_precision_at_once(half, ask):
    calls = []
    unet = unet_of(half, ask().weights)
    unet.register_forward_hook(overflow)
    unet.register_forward_pre_hook(lambda module, given: calls.append(1))
    half.paint(ask(steps=2))
    half.paint(ask(steps=2, seed=5))
    assert len(calls) == 2


def test_no_picture_is_black_where_full_precision_is_no_help(half, ask):
    in_half = unet_of(half, ask().weights).register_forward_hook(overflow)
    half.paint(ask(steps=1))
    in_half.remove()
    held = half.residency.held
    assert [weights.in_full for weights in held] == [False, True]
    unet_of(half, held[1]).register_forward_hook(overflow)
    with pytest.raises(NodeFailed, match="weights are damaged"):
        half.paint(ask(steps=1))


def test_a_drawing_that_does_not_fit_has_the_memory_for_itself_once(ask, tiny):
    engine = Engine(device="cpu")
    request, other = ask(steps=2), ask(path=tiny.file).weights
    engine.warm(other)

    def tight(module, given):
        if other in engine.residency.held:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    unet_of(engine, request.weights).register_forward_pre_hook(tight)
    assert engine.paint(request).images
    assert engine.residency.held == [request.weights]
    engine.close()


def test_two_that_do_not_fit_beside_each_other_are_both_painted(ask, tiny):
    """Whatever the budget says: while the one has the memory for itself the other waits, and the other way round."""
    engine, refused = Engine(device="cpu"), []

    def tight(module, given) -> None:
        if isinstance(module, UNet2DConditionModel) and len(engine.residency.held) > 1:
            refused.append(module)
            raise torch.OutOfMemoryError("CUDA out of memory")

    requests = [ask(steps=8), ask(path=tiny.file, steps=8)]
    hook = torch.nn.modules.module.register_module_forward_pre_hook(tight)
    try:
        with ThreadPoolExecutor(2) as threads:
            assert all(threads.map(engine.paint, requests))
    finally:
        hook.remove()
        engine.close()
    assert 0 < len(refused) < 10


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_autoencoder_that_does_not_fit_has_the_memory_for_itself_once(ask, tiny, part):
    engine, other = Engine(device="cpu"), ask(path=tiny.file).weights
    request = ask(steps=2, image=png("green", 64, 64))
    engine.warm(other)

    def tight(module, given):
        if other in engine.residency.held:
            raise torch.OutOfMemoryError("CUDA out of memory")

    getattr(engine.residency.pipeline(request.weights).components.vae, part).register_forward_pre_hook(tight)
    assert engine.paint(request).images
    assert engine.residency.held == [request.weights]
    engine.close()


def test_what_never_fits_is_told_with_what_was_needed_and_free(engine, ask):
    def never(module, given):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
            "3.94 GiB is free. Including non-PyTorch memory, this process has 75.16 GiB memory in use."
        )

    hook = unet_of(engine, ask().weights).register_forward_pre_hook(never)
    with pytest.raises(OutOfMemory, match=r"20\.5 GiB more were needed, 3\.9 GiB were free"):
        engine.paint(ask(n=2))
    hook.remove()
    assert engine.paint(ask(steps=1)).images


def test_a_picture_too_large_to_be_decoded_at_once_is_decoded_in_tiles(engine, ask):
    decoder = engine.residency.pipeline(ask().weights).components.vae.decoder
    seen = []

    def tight(module, given):
        seen.append(tuple(given[0].shape[-2:]))
        if given[0].shape[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")

    whole = engine.paint(ask(steps=2, width=128))
    hook = decoder.register_forward_pre_hook(tight)
    tiled = engine.paint(ask(steps=2, width=128))
    hook.remove()
    assert seen[0] == (16, 32)
    assert len(seen) > 2
    one, other = (np.asarray(Image.open(io.BytesIO(each.images[0].content))).astype(int) for each in (whole, tiled))
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 12


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 68719476736 bytes."),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:20],
)
def test_there_are_many_words_for_no_memory(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_a_machine_without_memory_says_what_it_has():
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 68719476736 bytes. Error code 12"
    assert shortage(said).startswith("The device ran out of memory: 64.0 GiB more were needed, ")
    assert shortage(said).endswith(" were free.")
    assert shortage("MPS backend out of memory") == "The device ran out of memory."


def test_a_stop_during_the_last_call_skips_the_decoding(engine, ask):
    decoded, asked = [], itertools.count()
    vae = engine.residency.pipeline(ask().weights).components.vae
    hook = vae.decoder.register_forward_pre_hook(lambda module, given: decoded.append(1))
    with pytest.raises(StopRequested):
        engine.paint(ask(steps=1), should_stop=lambda: next(asked) == 1)
    hook.remove()
    assert not decoded
    assert np.asarray(Image.open(io.BytesIO(engine.paint(ask(steps=1)).images[0].content))).std() > 0


def test_a_damaged_file_fails_its_own_request_only(engine, ask, tiny, tmp_path):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(tiny.file.read_bytes()[:-1000])
    with ThreadPoolExecutor(2) as threads:
        fine = threads.submit(engine.paint, ask(steps=5))
        broken = threads.submit(engine.paint, ask(path=damaged))
        with pytest.raises(CheckpointUnavailable, match=r"damaged\.safetensors"):
            broken.result()
        assert fine.result().images
