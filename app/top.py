"""`atelier top`: what runs, waits and has ended, as a table for a terminal. It only reads the database."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.store import seen
from app.store.engine import Tx
from app.store.seen import Counts, EndedRun, HeldStep, Work
from app.store.store import Store

_BEAT_S = 1.0
_MOST_ENDED = 10
_COLOURS = {"succeeded": "green", "partial-succeeded": "yellow", "failed": "red", "stopped": "dim"}

_View = tuple[Counts, list[HeldStep], list[EndedRun]]


def show_once(store: Store, out: Console) -> None:
    """Prints how things stand now. Raises Unavailable."""
    out.print(_page(store.read_blocking(_read)))


def show_until_stopped(store: Store, out: Console) -> None:
    """Shows how things stand, anew each second, until Ctrl-C. Raises Unavailable."""
    with Live(_page(store.read_blocking(_read)), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        while True:
            time.sleep(_BEAT_S)
            live.update(_page(store.read_blocking(_read)), refresh=True)


def _read(tx: Tx) -> _View:
    return seen.counts(tx), seen.held_steps(tx), seen.last_ended(tx, _MOST_ENDED)


def _page(view: _View) -> Group:
    counts, held, ended = view
    head = Text(f"runs running {counts.running}   steps waiting {_sum(counts.waiting)}   running {_sum(counts.held)}")
    if counts.expired:
        head.append(f"   expired leases {counts.expired}", "bold red")
    return Group(head, Text(), _waiting(counts.waiting), Text(), _held(held), Text(), _ended(ended))


def _sum(work: Iterable[Work]) -> int:
    return sum(each.steps for each in work)


def _table(title: str, *columns: str, numbers: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    return table


def _waiting(work: list[Work]) -> Table:
    table = _table("Waiting steps", "class", "checkpoint", "steps", "oldest", numbers=("steps", "oldest"))
    for each in work:
        table.add_row(each.work_class, each.checkpoint, str(each.steps), _seconds(each.oldest_s))
    return table


def _held(held: list[HeldStep]) -> Table:
    columns = ("run", "step", "kind", "checkpoint", "attempt", "worker", "lease left")
    table = _table("Running steps", *columns, numbers=("attempt", "lease left"))
    for step in held:
        left = Text(_seconds(step.lease_left_s), "red" if step.lease_left_s < 0 else "")
        row = (step.run_id, step.title, step.kind, step.checkpoint or "", str(step.attempt), step.worker_id)
        table.add_row(*map(Text, row), left)
    return table


def _ended(ended: list[EndedRun]) -> Table:
    table = _table("Last ended runs", "run", "app", "dialect", "status", "took", "ago", numbers=("took", "ago"))
    for run in ended:
        status = Text(run.status, _COLOURS.get(run.status, ""))
        table.add_row(Text(run.run_id), Text(run.app), run.dialect, status, _seconds(run.took_s), _seconds(run.ago_s))
    return table


def _seconds(seconds: float) -> str:
    if abs(seconds) < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
