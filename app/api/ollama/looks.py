"""Models as Ollama shows them: those that are installed, those in memory, and one with everything that is known."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.api.ollama.shapes import (
    OllamaDetails,
    OllamaLoadedModel,
    OllamaModel,
    OllamaShown,
    OllamaTensor,
)
from app.api.ollama.values import moment, number, quoted
from app.checkpoints.anatomy import Anatomies, tensors_of
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.digests import UNKNOWN, Digests
from app.checkpoints.header import Unreadable
from app.domain.resident import Resident
from app.runs.models import TAG, Model
from app.runs.residency import Housed, together

CAPABILITIES = ["image", "vision"]
"""Every checkpoint paints, and paints given pictures anew."""

_LONGEST_NS = 2**63 - 1
_TEMPLATE = "{{ .Prompt }}"
_KINDS = {"sd1": "StableDiffusion", "sd2": "StableDiffusion", "sdxl": "StableDiffusionXL", "shapes": "StableDiffusion"}
_NOTHING = OllamaDetails("", "", "", None, "", "")


class Looks:
    """Makes the answers. Its methods read files, so they block."""

    def __init__(self, digests: Digests, anatomies: Anatomies) -> None:
        self._digests = digests
        self._anatomies = anatomies

    def installed(self, models: Iterable[Model]) -> list[OllamaModel]:
        """The newest first."""
        dated = sorted(((_modified_ns(model), model) for model in models), key=lambda each: -each[0])
        return [
            OllamaModel(
                name=tagged(model.name),
                model=tagged(model.name),
                modified_at=moment(modified_ns),
                size=model.checkpoint.size_bytes,
                digest=model.preset.digest if model.preset else self._digests.of(model.checkpoint.path),
                details=self._details(model),
                capabilities=CAPABILITIES,
            )
            for modified_ns, model in dated
        ]

    def loaded(self, held: Sequence[Housed], models: Iterable[Model]) -> list[OllamaLoadedModel]:
        """The one that stays longest first."""
        by_name = {model.checkpoint.name: Model(model.checkpoint.name, model.checkpoint) for model in models}
        now_ns = time.time_ns()
        return [self._loaded(each, by_name.get(each.checkpoint), now_ns) for each in together(held)]

    def shown(self, model: Model, system: str, *, verbose: bool) -> OllamaShown:
        return OllamaShown(
            license=_licence(model),
            modelfile=_modelfile(model, system),
            parameters="\n".join(f"{name:<30} {_go(value)}" for name, value in defaults_of(model).items()),
            template=_template(model),
            system=system or (model.preset.system if model.preset else ""),
            details=self._details(model),
            model_info={},
            tensors=_tensors(model.checkpoint) if verbose else [],
            capabilities=CAPABILITIES,
            modified_at=moment(_modified_ns(model)),
        )

    def _loaded(self, held: Resident, model: Model | None, now_ns: int) -> OllamaLoadedModel:
        return OllamaLoadedModel(
            name=tagged(held.checkpoint),
            model=tagged(held.checkpoint),
            size=held.size,
            digest=self._digests.of(model.checkpoint.path) if model else UNKNOWN,
            details=self._details(model) if model else _NOTHING,
            expires_at=moment(now_ns + _left_ns(held)),
            size_vram=held.vram_size,
        )

    def _details(self, model: Model) -> OllamaDetails:
        checkpoint = model.checkpoint
        anatomy = self._anatomies.of(checkpoint.path)
        family = _pipeline(checkpoint)
        return OllamaDetails(
            parent_model=tagged(model.preset.parent) if model.preset else "",
            format="safetensors",
            family=family,
            families=[family],
            parameter_size=counted(anatomy.parameters),
            quantization_level=anatomy.kind,
        )


def tagged(name: str) -> str:
    """A model's name as it is shown: always with its tag."""
    return name if ":" in name.rpartition("/")[2] else name + TAG


def counted(parameters: int) -> str:
    """As Ollama writes a number for people: `859.52M`, `2.6B`; empty for none."""
    for unit, sign, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if parameters >= unit:
            return f"{parameters / unit:.{0 if parameters % unit == 0 else digits}f}{sign}"
    return f"{parameters / 1000:.0f}K" if parameters >= 1000 else str(parameters or "")


def defaults_of(model: Model) -> dict[str, Any]:
    """What it paints with where a request says nothing: what its card or its family says, then its own parameters."""
    card = model.checkpoint
    said = {
        "width": card.width or card.side,
        "height": card.height or card.side,
        "steps": card.steps,
        "guidance_scale": card.guidance_scale,
        "scheduler": card.sampler,
        "clip_skip": card.clip_skip,
        "vae": card.vae,
    }
    return {name: value for name, value in {**said, **model.defaults}.items() if value not in (0, "", None)}


def _modelfile(model: Model, system: str) -> str:
    origin = model.checkpoint.name if model.preset else model.name
    lines = ['# Modelfile generated by "ollama show"', f"FROM {tagged(origin)}", f"TEMPLATE {_block(_template(model))}"]
    system = system or (model.preset.system if model.preset else "")
    if system:
        lines.append(f"SYSTEM {_block(system)}")
    lines += [f"PARAMETER {name} {_block(_plain(value))}" for name, value in defaults_of(model).items()]
    if licence := _licence(model):
        lines.append(f"LICENSE {_block(licence)}")
    return "\n".join(lines) + "\n"


def _template(model: Model) -> str:
    return (model.preset.template if model.preset else "") or _TEMPLATE


def _licence(model: Model) -> str:
    return "\n".join(model.preset.license if model.preset else ()) or model.checkpoint.licence


def _block(text: str) -> str:
    """As a Modelfile has it, so that it is read as it was."""
    return f'"""{text}"""' if "\n" in text or '"' in text or text != text.strip() else text


def _go(value: Any) -> str:
    """As Go's `%#v` writes it."""
    return quoted(value) if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> str:
    """As Go's `%v` writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, int | float) else str(value)


def _pipeline(checkpoint: Checkpoint) -> str:
    kind = _KINDS.get((checkpoint.family or "").removesuffix("-inpaint"), "StableDiffusion")
    return f"{kind}{'Inpaint' if checkpoint.is_inpainting else ''}Pipeline"


def _tensors(checkpoint: Checkpoint) -> list[OllamaTensor]:
    try:
        found: Mapping[str, Any] = tensors_of(Path(checkpoint.path))
    except (Unreadable, OSError):
        return []
    return [OllamaTensor(name, tensor.kind, list(tensor.shape)) for name, tensor in found.items()]


def _modified_ns(model: Model) -> int:
    if model.preset is not None:
        return int(model.preset.modified_at * 1e9)
    try:
        return Path(model.checkpoint.path).stat().st_mtime_ns
    except OSError:
        return 0


def _left_ns(held: Resident) -> int:
    return _LONGEST_NS if held.left_s is None else max(0, int(held.left_s * 1e9))
