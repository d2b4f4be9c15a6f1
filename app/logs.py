"""Log lines: time, level, what happened, and the ids that it is about. Never a prompt, a key or a signed URL."""

from __future__ import annotations

import logging
import sys

_FIELDS = ("action", "request", "run", "step", "worker", "exit_status", "error", "sha256")


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        first, newline, rest = line.partition("\n")
        fields = [f"{name}={value}" for name in _FIELDS if (value := getattr(record, name, None)) is not None]
        return " ".join([first, *fields]) + newline + rest


def set_up_logs(process: str, level: str) -> None:
    """Logs of our own modules at `level` on standard error, of libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(f"%(asctime)s {process} %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("app", "workers"):
        logging.getLogger(name).setLevel(level.upper())
