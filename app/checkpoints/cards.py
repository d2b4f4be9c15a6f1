"""Model cards: `NAME.toml` beside a checkpoint says of it what its file can't, and overrides what is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Pixels = Annotated[int, Meta(ge=8, le=2048, multiple_of=8)]
_MOST_BYTES = 1 << 16


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every field may be left out. `docs/checkpoints.md` explains them. Ranges are those of the tools that paint."""

    prediction: Literal["epsilon", "v_prediction", ""] = ""
    sampler: str = ""
    size: Pixels | None = None  # px of a square
    width: Pixels | None = None
    height: Pixels | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=30)] | None = None
    steps: Annotated[int, Meta(ge=1, le=150)] | None = None
    clip_skip: Annotated[int, Meta(ge=1, le=12)] | None = None
    vae: str = ""
    text_encoder: str = ""
    licence: str = ""
    license: str = ""
    trigger_words: tuple[str, ...] = ()
    description: str = ""
    pinned: bool = False


class BadCard(Exception):
    """The card can't be used. Its text begins with the file's name."""


def card_path(checkpoint: Path) -> Path:
    """The card of a file or folder: beside it."""
    return checkpoint.with_name(f"{checkpoint.name if checkpoint.is_dir() else checkpoint.stem}.toml")


def read_card(path: Path) -> Card:
    """The card at `path`, an empty one where there is none. Raises BadCard."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise BadCard(f"{path.name} is wrong: a card has {_MOST_BYTES:,} bytes at most.")
        card = msgspec.toml.decode(text.decode("utf-8-sig"), type=Card)  # some editors begin a text with a mark
    except FileNotFoundError:
        return Card()
    except OSError as error:
        raise BadCard(f"{path.name} can't be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise BadCard(f"{path.name} is wrong: it is not in UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise BadCard(f"{path.name} is wrong: its brackets nest too deeply.") from error
    except msgspec.MsgspecError as error:
        raise BadCard(f"{path.name} is wrong: {_explained(str(error))}.") from error
    if (card.width is None) != (card.height is None):
        raise BadCard(f"{path.name} is wrong: width and height go together; `size` is one number for both.")
    return card


def values_of(card: Card) -> dict[str, Any]:
    """What the card says of its checkpoint, by the checkpoint's fields."""
    width, height = card.width or card.size, card.height or card.size
    values: dict[str, Any] = {
        "prediction": card.prediction,
        "sampler": card.sampler,
        "steps": card.steps,
        "clip_skip": card.clip_skip,
        "guidance_scale": card.guidance_scale,
        "vae": card.vae,
        "text_encoder": card.text_encoder,
        "licence": card.licence or card.license,
        "trigger_words": card.trigger_words,
        "description": card.description,
        "pinned": card.pinned,
    }
    if width and height:
        values |= {"side": round((width * height) ** 0.5), "width": width, "height": height}
    return {name: value for name, value in values.items() if value not in (None, "", (), False)}


def _explained(message: str) -> str:
    """What msgspec says (`Expected … - at `$.steps``), with the field in front, as people read."""
    said, _, place = message.partition(" - at ")
    if said.startswith("Object contains unknown field"):
        return f"there is no field {said.rpartition(' ')[2]}. There are: {', '.join(Card.__struct_fields__)}"
    return f"{place.strip('`').removeprefix('$.')}: {said}" if place else said
