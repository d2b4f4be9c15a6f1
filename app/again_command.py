"""`atelier again`: the same picture once more, from what its file says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from app import client
from app.artifacts.said import texts_of
from app.domain.recipe import Difference
from app.errors import InvalidParam
from app.graph.tools.recipe_text import preferred, read_said
from app.settings import load_settings
from app.terminal import out as terminal


def again(  # noqa: PLR0913 - each is an option
    file: Annotated[Path, typer.Argument(help="A picture that Atelier or A1111 wrote: PNG, JPEG or WebP.")],
    show: Annotated[bool, typer.Option("--show", help="Print what the file says, and make nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the picture is saved; default: in the folder out.")] = None,
    url: Annotated[str, typer.Option(help="Where Atelier listens.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="ATELIER_KEY", help="A key of the app; default: the quickstart's.")] = "",
    user: Annotated[str, typer.Option(help="Whose files the picture was made from.")] = client.USER,
    model: Annotated[str, typer.Option(help="A checkpoint in place of the one that the file names.")] = "",
    given: Annotated[list[Path], typer.Option(help="A picture that it was made from; once for each.")] = [],  # noqa: B006
) -> None:
    """Make a picture again from its own file. Exit 1 unless the pixels are the same; what is otherwise is said."""
    if show:
        return _show(file)
    key = key or client.kept_key(load_settings().data_dir)
    path, outputs = client.paint_again(url, key, client.Asked(file, user, model, tuple(given)), out)
    terminal.print(f"{path}\n{outputs['text']}", markup=False)
    differences = (Difference(each["name"], each["was"], each["now"]) for each in outputs["differences"])
    _list([*(each.sentence for each in differences), *outputs["notes"]])
    if not outputs["same_pixels"]:
        raise typer.Exit(1)


def _show(file: Path) -> None:
    try:
        with file.open("rb") as content:
            recipe, notes = read_said(preferred(texts_of(content)))
    except OSError as error:
        raise InvalidParam(f"{file} can't be read: {error.strerror}.") from None
    terminal.print_json(recipe.to_json(), highlight=False)
    _list(notes)


def _list(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        terminal.print(f"- {sentence}", markup=False)
