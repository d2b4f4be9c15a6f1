"""`atelier workflows`: documents go in as apps and come out. Whoever reaches the database may do all of it."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from app.api.dify.pages import read_site
from app.checkpoints.catalogue import open_catalogue
from app.errors import DocumentInvalid, InvalidParam
from app.installation import app_named, open_store
from app.runs.endpoints import unanswered_models
from app.runs.model_warnings import model_warnings
from app.runs.publishing import Edition, exported, publish, publish_with_key
from app.settings import load_settings
from app.store import accounts
from app.store.accounts import Publishing
from app.store.engine import Tx
from app.store.store import Store
from app.terminal import out

workflows = typer.Typer(no_args_is_help=True, help="Workflow documents (Dify DSL) and the apps that run them.")

File = Annotated[Path, typer.Argument(help="A workflow document, such as an export of Dify's.")]
Files = Annotated[list[Path], typer.Argument(help="Workflow documents, such as exports of Dify's.")]
AppName = Annotated[str, typer.Option("--app", help="The app's name; default: the file's name.")]
Env = Annotated[
    list[str],
    typer.Option("--env", help="NAME=VALUE of an environment variable, such as a secret; may be given many times."),
]


@workflows.command("import")
def import_documents(files: Files, name: AppName = "", env: Env = []) -> None:  # noqa: B006
    """Publish documents as apps; a new app gets a key, which is shown once.

    An app that is there gets a new version. Runs under way keep theirs, and what was given with --env before stays.
    A document that can't be run is told its problems, and the others are published: exit 1.
    """
    if name and len(files) > 1:
        raise InvalidParam("With --app there is one file: several are several apps, each named by its file.")
    failed = False
    with open_store(load_settings()) as store:
        for file in files:
            edition = _edition(file, env)
            if edition is None:
                failed = True
            else:
                _import(store, name or file.stem, file, edition)
    if failed:
        raise typer.Exit(1)


def _import(store: Store, app_name: str, file: Path, edition: Edition) -> None:
    done, key = store.commit_blocking(lambda tx: publish_with_key(tx, app_name, edition))
    _tell(f"The app {app_name} runs {file} as version {done.workflow_id}.")
    _tell_what_is_missing(store, edition, done)
    if key is not None:
        _tell(f"Key: {key}")
    else:
        _tell(f"Its keys go on. Another one: atelier keys create --app {app_name}")


@workflows.command("publish")
def publish_document(file: File, name: AppName = "", env: Env = []) -> None:  # noqa: B006
    """Publish a document as an app, as `import` does, and make no key."""
    app_name = name or file.stem
    edition = _edition(file, env)
    if edition is None:
        raise typer.Exit(1)
    with open_store(load_settings()) as store:
        _tell_what_is_missing(store, edition, store.commit_blocking(lambda tx: publish(tx, app_name, edition)))
    _tell(f"The app {app_name} runs {file}. A key for it: atelier keys create --app {app_name}")


@workflows.command("export")
def export_document(
    name: Annotated[str, typer.Argument(help="The app's name.")],
    version: Annotated[str, typer.Option(help="Id of a version, from `workflows list --app`; default: now's.")] = "",
    target: Annotated[Path | None, typer.Option("--out", help="The file to write; default: print it.")] = None,
) -> None:
    """Give back an app's document, exactly as it was published. What --env gave is not in it."""
    with open_store(load_settings()) as store:
        text = store.read_blocking(lambda tx: exported(tx, name, version or None))
    if target is None:
        sys.stdout.buffer.write(text.encode())
        return
    try:
        target.write_bytes(text.encode())
    except OSError as error:
        raise InvalidParam(f"{target} can't be written: {error.strerror}.") from None


@workflows.command("check")
def check(
    files: Annotated[list[Path], typer.Argument(help="Workflow documents.")],
    env: Env = [],  # noqa: B006
) -> None:
    """Check documents; every problem of every file is listed, and every warning. Exit 1 when one can't be run."""
    failed = False
    for file in files:
        try:
            edition = Edition.of(_read(file), _pairs(env))
            _tell(f"{file}: {len(edition.graph.nodes)} nodes, no problem")
            _list("warning", (*_warnings(edition), *_unset_secrets(edition)))
        except DocumentInvalid as error:
            failed = True
            _tell(f"{file}: {_counted(len(error.problems), 'problem')}")
            _list("problem", error.problems)
    if failed:
        raise typer.Exit(1)


@workflows.command("limit")
def limit(
    name: Annotated[str, typer.Argument(help="The app's name.")],
    most: Annotated[int, typer.Argument(min=0, help="Runs of the app that may be under way at once; 0: any number.")],
) -> None:
    """Limit how many runs of an app are under way at once, waiting ones included; more are refused with 429."""
    with open_store(load_settings()) as store:
        if not store.commit_blocking(lambda tx: accounts.limit_app(tx, name, most)):
            raise InvalidParam(f"There is no app named {name}.")


@workflows.command("list")
def list_workflows(
    name: Annotated[str, typer.Option("--app", help="Of this app: all its versions.")] = "",
) -> None:
    """List the apps and the version that each runs; or the versions of one app, the newest first."""
    table = Table("app", "workflow id", "version", box=None)
    with open_store(load_settings()) as store:
        rows = store.read_blocking(accounts.list_apps)
        if name:
            found = store.read_blocking(lambda tx: accounts.list_versions(tx, app_named(tx, name)))
            rows = [(name, *version) for version in found]
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)


@workflows.command("site")
def site(
    name: Annotated[str, typer.Argument(help="The app's name.")],
    fields: Annotated[list[str], typer.Argument(help="NAME=VALUE, such as title=Pictures; NAME= : as before.")] = [],  # noqa: B006
) -> None:
    """Change how the app's page looks where its document says otherwise or nothing; list what was changed."""
    pairs = _pairs(fields, "A field of a site")
    changed = read_site({name: value for name, value in pairs.items() if value})
    with open_store(load_settings()) as store:

        def change(tx: Tx) -> dict[str, Any]:
            app_id = app_named(tx, name)
            kept = {field: value for field, value in accounts.find_site(tx, app_id).items() if field not in pairs}
            accounts.set_site(tx, app_id, kept | changed)
            return kept | changed

        for field, value in store.commit_blocking(change).items():
            _tell(f"{field}={str(value).lower() if isinstance(value, bool) else value}")


def _edition(file: Path, env: Iterable[str]) -> Edition | None:
    """The checked document; None when it can't be run. Problems and warnings are told."""
    try:
        edition = Edition.of(_read(file), _pairs(env))
    except DocumentInvalid as error:
        _tell(f"{file} can't be published: {_counted(len(error.problems), 'problem')}")
        _list("problem", error.problems)
        return None
    _list("warning", _warnings(edition))
    return edition


def _warnings(edition: Edition) -> Iterator[str]:
    """What is odd about the document, and what this installation lacks for it."""
    settings = load_settings()
    catalogue = open_catalogue(settings)
    yield from edition.graph.warnings
    yield from unanswered_models(edition.graph, settings)
    yield from model_warnings(edition.graph, catalogue, settings.checkpoint_names)


def _tell_what_is_missing(store: Store, edition: Edition, done: Publishing) -> None:
    """Secrets that nobody has given yet, for exports have none; and apps that this one calls."""
    published = store.read_blocking(lambda tx: accounts.find_workflow(tx, done.workflow_id))
    _list("warning", _unset_secrets(edition, (published.environment if published else None) or {}))
    apps = {name for name, _, _ in store.read_blocking(accounts.list_apps)}
    missing = sorted(names[0] for names in edition.graph.calls if apps.isdisjoint(names))
    _list("warning", (f"it calls the app '{name}', which is not here: import that too" for name in missing))


def _unset_secrets(edition: Edition, given: Container[str] = ()) -> Iterator[str]:
    for variable in edition.graph.document.variables:
        if variable.is_unset_secret and variable.name not in given:
            yield f"the secret '{variable.name}' has no value: give it with --env {variable.name}=VALUE"


def _pairs(written: Iterable[str], what: str = "An --env") -> dict[str, str]:
    wrong = [pair for pair in written if "=" not in pair]
    if wrong:
        raise InvalidParam(f"{what} is NAME=VALUE, not {wrong[0]!r}.")
    return dict(pair.partition("=")[::2] for pair in written)


def _read(file: Path) -> str:
    """The file's text as it is: newlines too."""
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise InvalidParam(f"{file} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidParam(f"{file} is no text.") from None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(mark: str, texts: Iterable[str]) -> None:
    for text in texts:
        _tell(f"  {mark}: {text}")


def _tell(text: str) -> None:
    """A title may look like markup."""
    out.print(text, markup=False)
