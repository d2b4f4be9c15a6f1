"""Chunks → Conditioning: what a checkpoint's text encoders make of a prompt.

With a plain prompt of one chunk this is what diffusers' own pipelines encode, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.modeling_outputs import BaseModelOutput

from app.errors import CheckpointUnavailable, NodeFailed
from workers.diffusion.drawing.conditioning import Conditioning
from workers.diffusion.loras.dressing import Dressing
from workers.diffusion.prompts.attention import passages
from workers.diffusion.prompts.chunks import ROOM, Chunk, chunks
from workers.diffusion.prompts.inversions import Inversion, read_inversion
from workers.diffusion.prompts.remembered import Remembered
from workers.diffusion.request import Lora

REMEMBERED_BYTES = 64 << 20  # a chunk is 118 kB for Stable Diffusion 1 in half precision, 315 kB for XL
NO_MEAN = 1e-4  # of the numbers' size
PENULTIMATE = 2  # Stable Diffusion XL was trained on the layer before the last

Stamp = tuple[str, int, int]  # path, modification time in ns, size in bytes: another stamp, another file
TextEncoder: TypeAlias = CLIPTextModel | CLIPTextModelWithProjection


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    clip_skip: int = 1  # 1: the text encoder's last layer; 2: the one before it
    embeddings: tuple[tuple[str, str], ...] = ()  # (word, path) of the textual inversions that the text may name
    negative: bool = False
    loras: tuple[Lora, ...] = ()  # what the text encoders are to wear
    repeats: bool = False  # bit for bit: what another thread has encoded is another's


class PromptEncoder:
    """Encodes for one checkpoint, and remembers. Not for two threads at once: tokenizers and modules hold state."""

    def __init__(
        self, tokenizers: Sequence[CLIPTokenizer], encoders: Sequence[TextEncoder], dressing: Dressing
    ) -> None:
        self._tokenizers = tokenizers
        self._encoders = encoders
        self._dressing = dressing
        self._remembered: Remembered[Conditioning] = Remembered(REMEMBERED_BYTES)
        self._inversions: dict[str, tuple[Stamp, Inversion]] = {}

    @torch.inference_mode()
    def encode(self, prompt: Prompt) -> Conditioning:
        """An empty negative prompt is nothing but zeros for Stable Diffusion XL, as it was trained.

        Raises NodeFailed for a prompt that is too long; CheckpointUnavailable for an embedding or a LoRA that can't be
        used.
        """
        words = self._words(prompt)
        stamps = tuple(sorted((word, self._inversions[word][0]) for word in words))
        empty = prompt.negative and not prompt.text.strip()
        key = (prompt.text, prompt.clip_skip, empty, stamps, self._dressing.text_key(prompt.loras), prompt.repeats)
        return self._remembered.get(key, lambda: self._encoded(prompt, words))

    @property
    def bytes(self) -> int:
        """What is remembered takes so much memory."""
        return self._remembered.bytes

    def forget(self) -> None:
        self._remembered.forget()
        self._inversions.clear()

    def _words(self, prompt: Prompt) -> dict[str, Inversion]:
        """The embeddings that the prompt may name and does. Only their files are opened."""
        text = prompt.text.casefold()
        widths = [encoder.config.hidden_size for encoder in self._encoders]
        words = {}
        for name, path in prompt.embeddings:
            word = name.casefold()
            if word not in text:
                continue
            stamp = _stamp(name, Path(path))
            if word not in self._inversions or self._inversions[word][0] != stamp:
                self._inversions[word] = stamp, read_inversion(name, Path(path), widths)
            words[word] = self._inversions[word][1]
        return words

    def _encoded(self, prompt: Prompt, words: dict[str, Inversion]) -> Conditioning:
        cut = chunks(passages(prompt.text), self._tokenizers[0], words)
        with self._dressing.text(prompt.loras):
            read = [self._read(place, cut, prompt.clip_skip) for place in range(len(self._encoders))]
        layers, pooled = [_weighed(layer, cut) for layer, _ in read], read[-1][1]
        conditioning = Conditioning(torch.cat(layers, dim=-1).flatten(0, 1)[None], pooled)
        if pooled is not None and prompt.negative and not prompt.text.strip():
            return Conditioning(torch.zeros_like(conditioning.embedding), torch.zeros_like(pooled))
        return conditioning

    @property
    def _is_xl(self) -> bool:
        return len(self._encoders) > 1

    def _read(self, place: int, cut: Sequence[Chunk], clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The layer (chunks, 77, width) that counts of one text encoder; and what it pools the first chunk into."""
        tokenizer, encoder = self._tokenizers[place], self._encoders[place]
        start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
        rows = [[start, *(each.token for each in chunk), end, *[pad] * (ROOM - len(chunk))] for chunk in cut]
        with _in_place(encoder.get_input_embeddings(), cut, place):
            made = encoder(torch.tensor(rows, device=encoder.device), output_hidden_states=True)
        if self._is_xl:
            pooled = made.text_embeds[:1] if "text_embeds" in made else None
            return _layer(made, max(clip_skip, PENULTIMATE)), pooled
        if clip_skip == 1:
            return made.last_hidden_state, None
        normed: torch.Tensor = encoder.final_layer_norm(_layer(made, clip_skip))
        return normed, None


def _stamp(name: str, path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError as error:
        raise CheckpointUnavailable(f"The embedding {name} is not there any more: {error}.", params="prompt") from error
    return str(path), stat.st_mtime_ns, stat.st_size


def _layer(made: BaseModelOutput, from_end: int) -> torch.Tensor:
    """What the layer that is `from_end`-th from the end gave; the first entry is the words before any layer."""
    layers = made.hidden_states[1:]
    if not 1 <= from_end <= len(layers):
        said = f"clip_skip is {from_end}, but this checkpoint's text encoder has {len(layers)} layers."
        raise NodeFailed(said, error_type="InvalidParam")
    layer: torch.Tensor = layers[-from_end]
    return layer


@contextmanager
def _in_place(embedding: nn.Module, cut: Sequence[Chunk], encoder: int) -> Iterator[None]:
    """Within, `embedding` gives the inversions' vectors where they stand. The module itself stays as it is."""

    def put(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        for row, chunk in zip(output, cut, strict=True):
            for at, place in enumerate(chunk, start=1):
                if place.inversion:
                    row[at] = place.inversion.vectors[encoder][place.row].to(row)
        return output

    if not any(place.inversion for chunk in cut for place in chunk):
        yield
        return
    hook = embedding.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()


def _weighed(layer: torch.Tensor, cut: Sequence[Chunk]) -> torch.Tensor:
    """Each token's numbers times its weight; then each chunk's as a whole so that their mean is what it was.

    A chunk whose numbers have no mean to speak of is left without that: dividing by next to nothing would blow it up.
    """
    return torch.stack([_weighed_chunk(*each) for each in zip(layer, cut, strict=True)])


def _weighed_chunk(numbers: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """`numbers` is (77, width)."""
    if all(place.weight == 1 for place in chunk):
        return numbers
    weights = torch.ones(len(numbers), 1, device=numbers.device)
    weights[1 : len(chunk) + 1, 0] = torch.tensor([place.weight for place in chunk])
    plain = numbers.float()
    weighed = plain * weights
    if weighed.mean().abs() > NO_MEAN * weighed.abs().mean():
        weighed = weighed * (plain.mean() / weighed.mean())
    return weighed.to(numbers.dtype)
