"""`python -m app.api.documents.settings`: writes `docs/settings.md` from `app/settings.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from app.api.documents.errors import table
from app.settings import Settings, as_written, variable_name

_TOP = """\
# Settings

Written from `app/settings.py` by `make docs`; don't edit it here.

Settings are variables of the environment, or lines of a file `.env` in the folder where a command is started
(`.env.example` has the usual ones; the environment comes first). A value that can't be used stops the command with a
sentence that names it; variables that are not here mean nothing. `atelier settings` shows what counts where you are,
and `atelier doctor` tries it out. Endings are units: `_S` seconds, `_MB` 1024 × 1024 bytes.
"""


def settings_page() -> str:
    """The whole page."""
    return "\n".join([_TOP, *table(("variable", "default", "meaning"), _rows()), ""])


def _rows() -> Iterator[tuple[str, ...]]:
    for name, field in Settings.model_fields.items():
        default = as_written(field.default)
        yield f"`{variable_name(name)}`", f"`{default}`" if default else "", field.description or ""


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/settings.md").write_text(settings_page())
