"""`atelier checkpoints`: what is installed, and how more comes: pulled from a server, converted to half precision."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import httpx
import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from app.checkpoints.adapters import KINDS, Adapters, identify_adapter
from app.checkpoints.adapters import Kind as AdapterKind
from app.checkpoints.catalogue import open_catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.checkpoints.conversion import Conversions, Kind, convert, convert_folder
from app.checkpoints.download import Download
from app.checkpoints.hashes import Hashes
from app.checkpoints.header import is_pickled
from app.checkpoints.identify import SUFFIXES, identify
from app.checkpoints.installed import take_away
from app.checkpoints.kinds import FOLDERS
from app.checkpoints.sources import Hub, Remote, Source, find_source
from app.errors import AtelierError, InvalidParam
from app.settings import Settings, load_settings
from app.store.migrate import current_version
from app.store.residents import list_residents
from app.store.schema import SCHEMA_HEAD
from app.store.store import Store
from app.terminal import out

checkpoints = typer.Typer(help="Weights of diffusion models: what is installed, and how more comes.")

Name = Annotated[str, typer.Argument(help="The checkpoint's name, from `atelier checkpoints`.")]
Shelf = Literal["checkpoints", "loras", "embeddings", "vae", "controlnet", "upscalers", "text_encoders"]
Dtype = Literal["fp16", "bf16", "fp32"]
_KINDS: dict[str, Kind] = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
_KIND_OF_SHELF: dict[str, AdapterKind] = {FOLDERS[kind]: kind for kind in KINDS}
_OUT = "The file or folder to write; default: NAME-DTYPE beside the others, or, of a .ckpt, what workers load."
_WEIGHTS = SUFFIXES | {".bin"}


@checkpoints.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """List the installed checkpoints, unless another command is given."""
    if context.invoked_subcommand is None:
        list_checkpoints()


@checkpoints.command("list")
def list_checkpoints(
    quick: Annotated[bool, typer.Option("--quick", help="Only hashes that are known: reads no whole file.")] = False,
) -> None:
    """List the installed checkpoints, those with a problem too, and where to put more."""
    settings = load_settings()
    catalogue = open_catalogue(settings)
    found = catalogue.list()
    hashes = _hashes(settings, [] if quick else found)
    loaded = _residents(settings)
    table = Table("name", "family", "size", "sha256", "in memory", "state", box=None)
    for each in found:
        sha256 = hashes.find(Path(each.path)) or ""
        state = each.problem or _form(settings, each)
        row = (each.name, each.family or "", _megabytes(each.size_bytes), sha256[:10], loaded.get(each.name, ""), state)
        table.add_row(*map(Text, row))
    out.print(table)
    _print_adapters(catalogue.adapters)
    try:
        out.print(f"\nA request without a model_name gets {escape(catalogue.default().name)}.")
    except InvalidParam as error:
        out.print(f"\n{error.message}", markup=False)
    out.print(
        f"Put more into {settings.checkpoints_dir}: .safetensors or .ckpt files, or diffusers folders; or pull them.",
        markup=False,
    )


def _print_adapters(adapters: Adapters) -> None:
    """What goes with the checkpoints, if there is anything."""
    table = Table("folder", "name", "family", "size", "state", box=None)
    for each in (adapter for kind in KINDS for adapter in adapters.list(kind)):
        row = (FOLDERS[each.kind], each.name, each.family or "", _megabytes(each.size_bytes), each.problem or "usable")
        table.add_row(*map(Text, row))
    if table.row_count:
        out.print()
        out.print(table)


@checkpoints.command("show")
def show(name: Name) -> None:
    """Show all that is known of one checkpoint."""
    settings = load_settings()
    checkpoint = _named(settings, name)
    path = Path(checkpoint.path)
    converted = Conversions(settings.converted_dir).find(path)
    width, height = checkpoint.width or checkpoint.side, checkpoint.height or checkpoint.side
    facts = {
        "name": checkpoint.name,
        "path": checkpoint.path,
        "converted to": str(converted or ""),
        "family": checkpoint.family or "",
        "size": _megabytes(checkpoint.size_bytes),
        "sha256": _hashes(settings, [checkpoint]).find(path) or "",
        "predicts": checkpoint.prediction,
        "picture": f"{width} x {height}" if checkpoint.family else "",
        "guidance": f"{checkpoint.guidance_scale:g}" if checkpoint.family else "",
        "sampler": checkpoint.sampler,
        "steps": str(checkpoint.steps or ""),
        "clip skip": str(checkpoint.clip_skip or ""),
        "VAE": checkpoint.vae,
        "text encoder": checkpoint.text_encoder,
        "licence": checkpoint.licence,
        "trigger words": ", ".join(checkpoint.trigger_words),
        "description": checkpoint.description,
        "in memory": _residents(settings).get(checkpoint.name, ""),
        "problem": checkpoint.problem or "",
    }
    table = Table(box=None, show_header=False)
    for what, fact in facts.items():
        if fact:
            table.add_row(what, Text(fact))
    out.print(table)


@checkpoints.command("convert")
def convert_checkpoint(
    name: Name,
    dtype: Annotated[Dtype, typer.Option(help="The precision of the numbers.")] = "fp16",
    target: Annotated[Path | None, typer.Option("--out", help=_OUT)] = None,
) -> None:
    """Convert a checkpoint to half precision: of a .ckpt what workers would make of it, else a new one beside it."""
    settings = load_settings()
    checkpoint = _named(settings, name)
    source = Path(checkpoint.path)
    if checkpoint.problem and checkpoint.family is None:
        raise InvalidParam(f"{name} can't be converted: {checkpoint.problem}")
    with _bar(f"converting {checkpoint.name}") as told:
        if target is None and is_pickled(source) and dtype == "fp16":
            target = Conversions(settings.converted_dir).ready(source, told)
        else:
            target = target or settings.checkpoints_dir / f"{checkpoint.name}-{dtype}{_suffix(source)}"
            _require_absent(target)
            (convert_folder if source.is_dir() else convert)(source, target, _KINDS[dtype], told)
    made = identify(target)
    _tell(f"{target} has {_megabytes(made.size_bytes)}, where {source.name} has {_megabytes(checkpoint.size_bytes)}.")


@checkpoints.command("pull")
def pull(
    source: Annotated[str, typer.Argument(help="https://…, or owner/name or owner/name:file of Hugging Face's hub.")],
    name: Annotated[str, typer.Option(help="What to call it; default: as the file is called.")] = "",
    into: Annotated[Shelf, typer.Option(help="What it is.")] = "checkpoints",
    sha256: Annotated[str, typer.Option(help="64 hex digits that its bytes must have.")] = "",
    folder: Annotated[
        bool, typer.Option("--folder", help="Of a repository that has both: the diffusers folder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
) -> None:
    """Fetch a checkpoint. What breaks off goes on where it was with the next call."""
    settings = load_settings()
    hub = Hub(settings.hub_url, settings.hub_token)
    with httpx.Client(timeout=httpx.Timeout(30, read=60)) as client:
        found = find_source(client, hub, source, folder=folder)
        shelf = settings.checkpoints_dir / ("" if into == "checkpoints" else into)
        target = shelf / _file_name(found, name)
        if sha256 and found.is_folder:
            raise InvalidParam("--sha256 is for a single file; a folder has many.")
        if found.licence:
            _tell(f"Licence: {found.licence}")
        if target.exists() and not force:
            raise InvalidParam(f"{target} is there already. Replace it with --force, or give the new one a --name.")
        if found.is_folder:
            _fetch_folder(client, hub, found, target)
        else:
            digest = _fetch(client, hub, _expecting(found.files[0], sha256), target)
            Hashes(settings.hashes_file).note(target, digest)
            _tell(f"sha256: {digest}")
    _tell(f"{target} is there.")
    _judge(settings, into, target)


def _fetch_folder(client: httpx.Client, hub: Hub, source: Source, target: Path) -> None:
    """Files that came with an earlier call are not fetched again; nobody sees the folder before it is whole."""
    coming = target.with_name(f".{target.name}.part")
    for remote in source.files:
        file = coming / remote.path
        if not file.exists() or file.stat().st_size != (remote.size or file.stat().st_size):
            _fetch(client, hub, remote, file)
    if target.exists():
        take_away(target)
    coming.replace(target)


def _fetch(client: httpx.Client, hub: Hub, remote: Remote, target: Path) -> str:
    headers = hub.headers if hub.opens(remote.url) else {}
    with _bar(remote.path or remote.filename) as told:
        return Download(client, headers).fetch(remote, target, lambda done, of: told(done, of or 0))


def _judge(settings: Settings, into: Shelf, target: Path) -> None:
    """Says what came, and makes it ready to be loaded. Exit 1 when it can't be used."""
    name = target.name if target.is_dir() else target.stem
    made = _named(settings, name) if into == "checkpoints" else identify_adapter(_KIND_OF_SHELF[into], name, target)
    if made.problem:
        _tell(f"It can't be used: {made.problem}")
        raise typer.Exit(1)
    family = f"is of the family {made.family}" if made.family else "goes with any family"
    _tell(f"It {family}; requests call it {name}.")
    if is_pickled(target):
        with _bar(f"converting {name}") as told:
            Conversions(settings.converted_dir).ready(target, told)


def _expecting(remote: Remote, sha256: str) -> Remote:
    """With the hash that was given in place of the one that the server tells."""
    wanted = sha256.lower().strip()
    if wanted and not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InvalidParam(f"--sha256 is 64 hex digits, not {sha256!r}.")
    return msgspec.structs.replace(remote, sha256=wanted) if wanted else remote


def _file_name(source: Source, name: str) -> str:
    """The name of the file or folder to write, which leads nowhere else."""
    if source.is_folder:
        wanted = name or source.name
    else:
        suffix = Path(source.files[0].filename).suffix.lower()
        suffix = suffix if suffix in _WEIGHTS else Path(name).suffix.lower()
        if suffix not in _WEIGHTS:
            raise InvalidParam(
                f"{source.files[0].filename or 'The address'} does not look like weights. If it is, say how to call "
                "it: --name something.safetensors."
            )
        wanted = (name.removesuffix(suffix) or source.name) + suffix
    if wanted != Path(wanted).name or wanted.startswith("."):
        raise InvalidParam(f"{wanted!r} can't be the name of a file. Give another with --name.")
    return wanted


def _named(settings: Settings, name: str) -> Checkpoint:
    """One that has a problem, too."""
    catalogue = open_catalogue(settings)
    found = {checkpoint.name: checkpoint for checkpoint in catalogue.list()}
    return found.get(name) or catalogue.get(name)


def _form(settings: Settings, checkpoint: Checkpoint) -> str:
    path = Path(checkpoint.path)
    if not is_pickled(path):
        return "usable"
    return "usable, converted" if Conversions(settings.converted_dir).find(path) else "usable, not converted yet"


def _hashes(settings: Settings, wanted: list[Checkpoint]) -> Hashes:
    """What is known, with the hashes of `wanted`; a bar shows that files are read."""
    hashes = Hashes(settings.hashes_file)
    unknown = [each for each in wanted if each.family and hashes.find(Path(each.path)) is None]
    if unknown:
        total = sum(each.size_bytes for each in unknown)
        with _bar("reading") as told:
            done = 0
            for each in unknown:
                told(done, total)
                with suppress(OSError):
                    hashes.compute(Path(each.path))
                done += each.size_bytes
                told(done, total)
    return hashes


def _residents(settings: Settings) -> dict[str, str]:
    """Checkpoint → what workers have of it in memory. No database, or one of another version, tells of none."""
    if settings.is_embedded and not settings.database_path.exists():
        return {}
    try:
        if current_version(settings) != SCHEMA_HEAD:
            return {}
        with closing(Store(settings)) as store:
            housed = store.read_blocking(list_residents)
    except AtelierError as error:
        _tell(f"What workers have in memory is not known: {error.message}")
        return {}
    sizes: dict[str, list[int]] = {}
    for each in housed:
        sizes.setdefault(each.resident.checkpoint, []).append(each.resident.size)
    return {name: _megabytes(max(held)) + (f" x {len(held)}" if len(held) > 1 else "") for name, held in sizes.items()}


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on standard error, where that is a terminal: what is piped on stays free of it."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = Console(file=sys.stderr)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of or None)


def _require_absent(target: Path) -> None:
    if target.exists():
        raise InvalidParam(f"{target} is there already. Give another with --out.")


def _suffix(source: Path) -> str:
    return "" if source.is_dir() else ".safetensors"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def _tell(text: str) -> None:
    """A name may look like markup."""
    out.print(text, markup=False)
