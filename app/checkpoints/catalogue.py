"""The installed checkpoints by name."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import msgspec

from app.checkpoints.adapters import NAMED, Adapters, Kind, listed
from app.checkpoints.cards import BadCard, card_path, read_card, values_of
from app.checkpoints.checkpoint import BY_NAME, Checkpoint
from app.checkpoints.hashes import Hashes
from app.checkpoints.identify import (
    SUFFIXES,
    Fingerprint,
    fingerprint,
    identify,
    is_nameable,
    looks_like_checkpoint,
    name_of,
)
from app.errors import CheckpointUnavailable
from app.settings import Settings

# What a request means that names no checkpoint: the one everybody knows, then the configured one, then our own.
WELL_KNOWN, SHIPPED = "v1-5-pruned-emaonly", "atelier-shapes"
SHIPPED_FOLDER = Path(__file__).parent / "shipped"

# A change of a folder within the same tick of its clock leaves its mtime as it was. So a listing is trusted only if
# the folder had been at rest for longer than any file system's tick (FAT: 2 s) when it was made.
_TICK_NS = 2_000_000_000
_MISSING = {
    "vae": "has no VAE in it. Get the full version of this checkpoint, or name a VAE for it: `vae` in {name}.toml, "
    "or ATELIER_DEFAULT_VAE.",
    "text_encoder": "has no text encoder in it. Get the full version of this checkpoint, or name another that has one: "
    "`text_encoder` in {name}.toml.",
}
_NOUNS = {"vae": "VAE", "text_encoder": "text encoder"}
_HASH = re.compile(r"\s*\[[0-9a-fA-F]{6,64}\]$")


class Catalogue:
    """What lies in `folders`, the first of them first. It follows the disk: a new file is there for the next request.

    A look-up costs a stat for each folder and for the files of the checkpoint; headers are read again only after a
    change. A name is only ever looked up among those found, so no name can lead to another place of the disk.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        default: str | None = None,
        aliases: Mapping[str, str] | None = None,
        default_vae: Mapping[str, str] | None = None,
        hashes: Hashes | None = None,
    ) -> None:
        """`aliases`: other names of checkpoints; a file that is called so comes first. `default_vae`: by family, the
        VAE of files without one. What a card or it names is looked for in the first folder.
        """
        self._folders = [Path(folder) for folder in folders]
        self._default = default
        self._aliases = dict(aliases or {})
        self._default_vae = dict(default_vae or {})
        self.adapters = Adapters(self._folders[0] if self._folders else SHIPPED_FOLDER)
        self._mtimes_ns: list[int] | None = None  # of the folders, when `_paths` was made; None: not to be trusted
        self._paths: dict[str, Path] = {}
        self._cards: dict[str, Path] = {}
        self._known: dict[Path, tuple[Fingerprint, Checkpoint]] = {}
        self.hashes = hashes or Hashes()

    def list(self) -> list[Checkpoint]:
        """All of them by name, with those that can't be used."""
        found = (self._find(name) for name in sorted(self._current_paths()))
        return [checkpoint for checkpoint in found if checkpoint]

    def called(self, name: str) -> Checkpoint | None:
        """The one whose own name that is, whatever the case, usable or not. No other one is looked at."""
        found = min((each for each in self._current_paths() if each.lower() == name.lower()), default=None)
        return None if found is None else self._find(found)

    def get(self, name: str) -> Checkpoint:
        """The usable checkpoint of that name, which may end as its file does. Raises CheckpointUnavailable."""
        checkpoint = self._find(name) or self._find(without_end(name))
        if checkpoint is None:
            meant = self._aliases.get(name)
            stands = f" ({name!r} stands for it)" if meant else ""
            raise CheckpointUnavailable(
                f"There is no checkpoint {meant or name!r}{stands}. {self._way_out()}", params="model_name"
            )
        if checkpoint.problem:
            raise CheckpointUnavailable(
                f"The checkpoint {name!r} can't be used: {checkpoint.problem}", params="model_name"
            )
        return checkpoint

    def pinned(self, also: Iterable[str] = ()) -> tuple[str, ...]:
        """The names of those that stay in memory: because their card says so, or because they are named here."""
        named = (found.name if (found := self._find(name)) else name for name in also)
        return tuple(dict.fromkeys((*named, *(each.name for each in self.list() if each.pinned and not each.problem))))

    def default(self) -> Checkpoint:
        """What a request without a name gets. Raises CheckpointUnavailable when nothing fits."""
        for name in (WELL_KNOWN, self._default, SHIPPED):
            checkpoint = self._find(name) if name else None
            if checkpoint and not checkpoint.problem:
                return checkpoint
        raise CheckpointUnavailable(f"There is no default checkpoint. {self._way_out()}", params="model_name")

    def stand_in(self, asked: str, names: Mapping[str, str]) -> Checkpoint:
        """What paints where a model is asked for that may be somebody else's.

        The checkpoint that `names` gives it, else the one that is called so, else the one for `*`, else the default. A
        name may have a folder before it, and an extension or a hash behind it. Raises CheckpointUnavailable where
        `names` gives a checkpoint that can't be used.
        """
        plain = bare_name(asked)
        named = names.get(asked) or names.get(plain)
        if named:
            return self.get(named)
        found = self._find(asked) or self._find(plain)
        if found and not found.problem:
            return found
        return self.get(names["*"]) if "*" in names else self.default()

    def alias(self, name: str) -> str | None:
        """The checkpoint that another name stands for, whatever its case; None for a name that stands for none."""
        named = self._aliases.get(name)
        return named or next((each for alias, each in self._aliases.items() if alias.lower() == name.lower()), None)

    def with_hash(self, prefix: str) -> Checkpoint | None:
        """A usable one whose hash begins so, as far as hashes are known: no file is read for it."""
        if not prefix:
            return None
        usable = (each for each in self.list() if not each.problem)
        known = ((each, self.hashes.find(Path(each.path)) or "") for each in usable)
        return next((each for each, sha256 in known if sha256.startswith(prefix.lower())), None)

    def _find(self, name: str) -> Checkpoint | None:
        paths = self._current_paths()
        name = normalize("NFC", name)
        if name not in paths:
            name = self._aliases.get(name, "")
        path = paths.get(name)
        if path is None:
            return None
        stamp, card = fingerprint(path), self._cards.get(name)
        if not stamp:  # without a file left: it was deleted in place of its folder
            return None
        stamp = (*stamp, *fingerprint(card)) if card else stamp
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, _with_card(identify(path), card))
        return self._equipped(known[1])

    def _equipped(self, checkpoint: Checkpoint) -> Checkpoint:
        """With the paths of what its card or the settings name, or with what is missing as its problem."""
        family = BY_NAME.get(checkpoint.family or "")
        if checkpoint.problem or family is None or not (checkpoint.lacks or checkpoint.vae or checkpoint.text_encoder):
            return checkpoint
        vae = checkpoint.vae
        if "vae" in checkpoint.lacks:
            vae = vae or self._default_vae.get(family.name) or self._default_vae.get(family.kin, "")
        try:
            return msgspec.structs.replace(
                checkpoint,
                vae=vae,
                vae_path=self._part("vae", vae, checkpoint),
                text_encoder_path=self._part("text_encoder", checkpoint.text_encoder, checkpoint),
            )
        except CheckpointUnavailable as error:
            return msgspec.structs.replace(checkpoint, problem=error.message)

    def _part(self, kind: Kind, name: str, checkpoint: Checkpoint) -> str:
        """The path of what is named for the checkpoint, an adapter or else another checkpoint; empty for none.

        Raises CheckpointUnavailable.
        """
        file = Path(checkpoint.path).name
        if not name:
            if kind in checkpoint.lacks:
                raise CheckpointUnavailable(f"{file} {_MISSING[kind].format(name=checkpoint.name)}")
            return ""
        other = self._current_paths().get(name)
        try:
            return self.adapters.find(kind, name).path
        except CheckpointUnavailable as error:
            if other is not None and str(other) != checkpoint.path:
                return str(other)
            raise CheckpointUnavailable(f"{file} is to have another {_NOUNS[kind]}. {error.message}") from None

    def _current_paths(self) -> dict[str, Path]:
        """Name → path, listed again if a folder changed since."""
        mtimes_ns = [_mtime_ns(folder) for folder in self._folders]
        if mtimes_ns != self._mtimes_ns:
            at_rest = max(mtimes_ns, default=0) < time.time_ns() - _TICK_NS
            self._paths, self._cards = _listed(self._folders)
            self._mtimes_ns = mtimes_ns if at_rest else None
        return self._paths

    def _way_out(self) -> str:
        found = (self._find(name) for name in sorted(self._current_paths()))
        usable = islice((each.name for each in found if each and not each.problem), NAMED + 1)
        where = f" Put a .safetensors file into {self._folders[0]}." if self._folders else ""
        return listed(list(usable)) + where


def _mtime_ns(folder: Path) -> int:
    """0 for a folder that isn't there: it may come."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _listed(folders: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Name → path, and name → model card for those that have one.

    Of one name, the earlier folder counts, and within a folder a .safetensors file before others.
    """
    paths: dict[str, Path] = {}
    there: set[Path] = set()
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found = [Path(entry.path) for entry in entries if is_nameable(entry.name)]
        except OSError:
            continue
        there.update(found)
        for path in sorted(filter(looks_like_checkpoint, found), key=_rank):
            paths.setdefault(name_of(path), path)
    return paths, {name: card for name, path in paths.items() if (card := card_path(path)) in there}


def _rank(path: Path) -> tuple[int, str]:
    order = 0 if path.suffix.lower() == ".safetensors" and path.is_file() else 1 if path.is_dir() else 2
    return order, path.name


def bare_name(asked: str) -> str:
    """A model's name without what other image servers show with it: `SD/name.safetensors [6ce0161689]` → `name`."""
    name = _HASH.sub("", asked.strip())
    return without_end(name.replace("\\", "/").rpartition("/")[2])


def without_end(name: str) -> str:
    """`name.safetensors` → `name`; the same of the other ends that a checkpoint's file may have."""
    return name.rpartition(".")[0] if Path(name).suffix.lower() in SUFFIXES else name


def open_catalogue(settings: Settings) -> Catalogue:
    """What is installed, and after it the checkpoint that ships with Atelier."""
    folders = [settings.checkpoints_dir, SHIPPED_FOLDER]
    default = settings.default_checkpoint or None
    return Catalogue(folders, default, settings.checkpoint_aliases, settings.default_vae, Hashes(settings.hashes_file))


def _with_card(checkpoint: Checkpoint, card: Path | None) -> Checkpoint:
    if checkpoint.problem or card is None:
        return checkpoint
    try:
        values = values_of(read_card(card))
    except BadCard as error:
        values = {"problem": str(error)}
    return msgspec.structs.replace(checkpoint, **values)
