"""`python -m app.api.documents.dialects`: writes `docs/dialects.md` from `app/api/pictures/table.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.api.documents.errors import table
from app.api.pictures.table import COLUMNS, ROWS, Cell, Column, Effect

_MARKS = {
    Effect.HONOURED: "●",
    Effect.MAPPED: "◐",
    Effect.REFUSED: "✕",
    Effect.WITHOUT_EFFECT: "○",
    Effect.NONE: "",
}
_TOP = """\
# Dialects

Written from `app/api/pictures/table.py` by `make docs`; don't edit it here.

The same runs can be asked for in five dialects, so programs that were written for other servers paint here as they are:

| dialect | where | its page |
|---|---|---|
| Dify | `/v1/workflows/…` | [dify-compatibility.md](dify-compatibility.md) |
| OpenAI | `/v1/images/…`, `/v1/models` | [openai.md](openai.md) |
| Ollama | `/api/…`, and a port of its own (11434) | [ollama.md](ollama.md) |
| llama.go | `/llamago/…`, and a port of its own (8081) | [llamago.md](llamago.md) |
| ALLM | `/v1/allm/image` | [allm.md](allm.md) |

Each call is a run of a workflow document that ships (`text-to-image`, `image-edit`, `image-variation`, `inpaint`) under
the key's app: durable, fair, limited, found by its `Idempotency-Key`, ranked by `X-Priority`, ended by `Cancel-After`
as any other. Its answer has `X-Workflow-Run-Id` and `X-Task-Id`, by which it is read, followed and stopped:

```sh
curl "$URL/v1/workflows/logs" -H "Authorization: Bearer $KEY"                       # each entry tells its dialect
curl -X POST "$URL/v1/workflows/tasks/$TASK_ID/stop" -H "Authorization: Bearer $KEY" -d '{"user": "me"}' \\
  -H 'Content-Type: application/json'
```

`GET /v1/workflows/logs`, `/v1/workflows/runs` and `…/run/{id}?include=task` tell a run's `dialect`, `atelier top` shows
it, and `/metrics` counts by it (`atelier_runs_accepted_total`). What is said in one dialect and can be said in another
makes the same run: same settings, same seed, same picture. Errors have the dialect's shape, whatever is wrong.

## What each can say
"""
_LEGEND = "\n● honoured · ◐ mapped · ✕ refused · ○ accepted without effect · empty: there is no way to say it\n"


def dialects_page() -> str:
    """The whole page."""
    overview = table(("", *(column.title for column in COLUMNS)), map(_marks, _rows()))
    parts = [_TOP, *overview, _LEGEND]
    for column in COLUMNS:
        parts += [f"## {column.title}\n", f"{column.where}.\n", *_column(column), ""]
    return "\n".join(parts)


def _rows() -> Iterator[tuple[str, list[Cell]]]:
    for each in ROWS:
        yield each.name, [each.cells[column.name] for column in COLUMNS]


def _marks(named: tuple[str, list[Cell]]) -> tuple[str, ...]:
    return named[0], *(_MARKS[cell.effect] for cell in named[1])


def _column(column: Column) -> Iterable[str]:
    cells = [(each.name, each.cells[column.name]) for each in ROWS]
    said = [(name, cell) for name, cell in cells if cell.effect is not Effect.NONE]
    return table(
        ("", "said by", "effect", ""),
        ((name, ", ".join(f"`{field}`" for field in cell.fields), cell.effect.value, cell.says) for name, cell in said),
    )


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/dialects.md").write_text(dialects_page())
