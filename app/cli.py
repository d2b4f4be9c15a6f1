"""`atelier`: serve, worker, run, again, quickstart, cluster, top, doctor, settings; checkpoints, keys and so on."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from app import client
from app.again_command import again
from app.checkpoint_commands import checkpoints
from app.cluster.supervise import Cluster, Plan
from app.domain.request import NAMES
from app.errors import AtelierError, InvalidParam, SettingsInvalid
from app.installation import open_store, prepare, publish_first_app
from app.key_commands import keys
from app.moving import move
from app.settings import SECRETS, Settings, as_written, load_settings, variable_name
from app.store.migrate import current_version, differences, upgrade
from app.store.schema import SCHEMA_HEAD
from app.terminal import out
from app.top import show_once, show_until_stopped
from app.webhook_commands import webhooks
from app.workflow_commands import workflows

if TYPE_CHECKING:
    from app.serving import Server

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Requests for pictures as durable workflow runs.")
db = typer.Typer(no_args_is_help=True, help="The database: its tables, and from SQLite to PostgreSQL.")
app.add_typer(checkpoints, name="checkpoints")
app.add_typer(keys, name="keys")
app.add_typer(workflows, name="workflows")
app.add_typer(webhooks, name="webhooks")
app.add_typer(db, name="db")

_INPUT = re.compile(r"\w+=")

Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]


def main() -> None:
    """The console command: errors that we know get one sentence, exit status 1."""
    try:
        app()
    except AtelierError as error:
        sys.exit(f"atelier: {error.message}")


def _settings(**overrides: Any) -> Settings:
    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


def _server(settings: Settings) -> Server:
    # The whole API: no other command needs it.
    from app.serving import Server  # noqa: PLC0415
    from workers.crew import Crew  # noqa: PLC0415

    # On a database of its own every ring is this server's; else another one's may go elsewhere.
    is_rung = settings.is_embedded and not settings.redis_url
    return Server(settings, Crew(settings, is_rung=is_rung) if settings.worker == "embedded" else None)


def _tell_ports(server: Server) -> None:
    for dialect, url in server.urls.items():
        out.print(f"For clients of {NAMES[dialect]}: {url}")


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the API, with a worker beside it."""
    settings = _settings(host=host, port=port)
    server = _server(settings)
    prepare(settings)
    _tell_ports(server)
    out.print(f"Atelier listens on {server.url}")
    server.run()


@app.command()
def worker(
    work_class: Annotated[list[str], typer.Option("--class", help="Class of work: gpu, cpu; may be given twice.")],
) -> None:
    """Run steps of a class of work for the servers of the same database (PostgreSQL and Redis)."""
    # Celery is half a second that no other command needs.
    from workers.service import serve as serve_worker  # noqa: PLC0415

    unknown = set(work_class) - {"cpu", "gpu"}
    if unknown:
        raise InvalidParam(f"There is no class of work named {', '.join(sorted(unknown))}: use cpu or gpu.")
    serve_worker(_settings(), tuple(work_class))


@app.command()
def quickstart(
    host: Host = None,
    port: Port = None,
    once: Annotated[bool, typer.Option("--once", help="Stop after the picture.")] = False,
    prompt: Annotated[str, typer.Option(help="What to paint.")] = client.FIRST_PROMPT,
) -> None:
    """Serve, make one picture through the API as a client would, and go on serving."""
    settings = _settings(host=host, port=port)
    server = _server(settings)
    key = prepare(settings)
    with server.beside() as stop:
        client.wait_until_ready(server.url, server.failed)
        picture, *_ = client.paint(server.url, key, {"prompt": prompt, "seed": 7}, Path("out"))
        out.print(f"\nYour picture: {picture}\nThe same again:\n\n{client.curl(server.url, key, prompt)}\n")
        if once:
            stop()
        else:
            _tell_ports(server)
            out.print(f"Atelier listens on {server.url} until you press Ctrl-C.")


@app.command()
def cluster(
    folder: Annotated[Path, typer.Option(help="Where all of it keeps its data.")] = Path(".atelier/cluster"),
    port: Annotated[int, typer.Option(help="Port of the one address; 0 takes a free one.")] = 0,
    api: Annotated[int, typer.Option(min=1, help="How many API processes.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="How many workers.")] = 2,
    setting: Annotated[list[str], typer.Option(help="NAME=VALUE for API processes and workers.")] = [],  # noqa: B006
) -> None:
    """Run the production form here: PostgreSQL, Redis, API processes, workers and nginx; what dies is started again."""
    wrong = [pair for pair in setting if "=" not in pair]
    if wrong:
        raise InvalidParam(f"A --setting is NAME=VALUE, not {wrong[0]!r}.")
    settings = {name: value for name, _, value in (pair.partition("=") for pair in setting)}
    started = Cluster(Plan(folder, port, api, workers, settings), out.print)

    def ready() -> None:
        table = Table("process", "pid", box=None)
        for name, pid in started.processes():
            table.add_row(name, str(pid or "down"))
        out.print(table)
        for name, port in started.nginx.ports.items():
            out.print(f"For clients of {name}: http://127.0.0.1:{port}")
        out.print(f"\nAtelier listens on {started.url} until you press Ctrl-C. Logs: {started.folder}/logs")
        out.print(f"Key: {started.key}\n\n{client.curl(started.url, started.key, client.FIRST_PROMPT)}\n")

    started.run(ready)


@app.command()
def run(
    inputs: Annotated[list[str], typer.Argument(help="Inputs as name=value; a single text is the prompt.")],
    url: Annotated[str, typer.Option(help="Where Atelier listens.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(envvar="ATELIER_KEY", help="A key of the app; default: the quickstart's.")] = "",
    folder: Annotated[Path, typer.Option("--out", help="Where pictures are saved.")] = Path("out"),
) -> None:
    """Run a workflow over HTTP with a progress bar, and save its pictures."""
    if len(inputs) == 1 and not _INPUT.match(inputs[0]):
        inputs = [f"prompt={inputs[0]}"]
    wrong = [pair for pair in inputs if not _INPUT.match(pair)]
    if wrong:
        raise InvalidParam(f"Several inputs are name=value each, not {wrong[0]!r}.")
    values: dict[str, Any] = dict(pair.partition("=")[::2] for pair in inputs)
    for picture in client.paint(url, key or client.kept_key(_settings().data_dir), values, folder):
        out.print(str(picture), markup=False)


app.command()(again)


@app.command()
def top(once: Annotated[bool, typer.Option("--once", help="Print once and end.")] = False) -> None:
    """Show what runs, what waits and what has ended, until Ctrl-C."""
    with open_store(_settings()) as store:
        if once:
            show_once(store, out)
            return
        with suppress(KeyboardInterrupt):
            show_until_stopped(store, out)


@app.command(name="settings")
def list_settings() -> None:
    """List every setting with its value, its default and its meaning."""
    settings = _settings()
    table = Table("variable", "value", "default", "meaning", box=None)
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name in SECRETS and value else as_written(value)
        table.add_row(*map(Text, (variable_name(name), shown, as_written(field.default), field.description or "")))
    out.print(table)


@app.command()
def doctor() -> None:
    """Examine what the settings name: folders, database, Redis, bucket, checkpoints. Exit 1 when something is wrong."""
    # It needs every driver that there is; no other command does.
    from app.cluster.doctor import Finding, examine  # noqa: PLC0415

    try:
        settings = _settings()
        findings = [Finding("settings", "can be read"), *examine(settings)]
    except SettingsInvalid as error:
        findings = [Finding("settings", error.message, "Correct it in the environment or in .env.")]
    table = Table(box=None, show_header=False)
    for finding in findings:
        table.add_row(
            finding.mark, finding.subject, f"{finding.found}. {finding.mend}" if finding.mend else finding.found
        )
    out.print(table)
    if any(finding.mark == "✗" for finding in findings):
        raise typer.Exit(1)


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this version's tables."""
    settings = _settings()
    out.print("upgraded" if upgrade(settings) else "already up to date")
    with open_store(settings) as store:
        store.commit_blocking(publish_first_app)


@db.command("status")
def db_status() -> None:
    """Say where the database is and which version its tables have."""
    settings = _settings()
    where = settings.database_path if settings.is_embedded else "PostgreSQL"
    out.print(f"{where}: {current_version(settings) or 'empty'} (this version: {SCHEMA_HEAD})")


@db.command("copy")
def db_copy(
    urls: Annotated[list[str], typer.Argument(metavar="[SOURCE_URL] TARGET_URL", help="sqlite:///… postgresql://…")],
) -> None:
    """Copy a stopped SQLite installation into an empty PostgreSQL database, and its pictures into S3_BUCKET, if set.

    Without SOURCE_URL it is the database of the settings.
    """
    move(urls, _settings(), out)


@db.command("check")
def db_check() -> None:
    """Bring the tables to this version, and exit 1 when they are not those of the program then."""
    settings = _settings()
    upgrade(settings)
    found = differences(settings)
    if found:
        out.print("the migrations do not match the tables:", *found, sep="\n")
        raise typer.Exit(1)
