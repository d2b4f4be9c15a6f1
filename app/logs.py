"""Log lines: time, level, process, what happened, and the ids that it is about. Never a prompt, a key or a signed URL.

Whoever handles a request or a step says so once (`about`); from then on every line that is written on the way carries
the ids, a library's too. Lines are text for a terminal or JSON for a collector, on standard error in both cases.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from app import ids

_FIELDS = ("action", "request", "run", "step", "attempt", "worker", "trace")
_MORE = ("kind", "outcome", "method", "route", "status", "seconds", "exit_status", "error", "sha256")

# Whatever looks like a key, a signature or the password of a URL, wherever it came from.
_SECRETS = re.compile(
    r"app-[A-Za-z0-9]{24}|whsec_[A-Za-z0-9+/=]+|(?<=Bearer )[^\s'\"]+"
    r"|(?<=sign=)[^&\s'\"]+|(?<=Signature=)[^&\s'\"]+"
    r"|(?<=://)[^\s/@'\"]+(?=@)"
)
# Their messages speak of the machine. Others may quote a value that a caller sent: those need the level debug.
_OF_THE_MACHINE = (OSError, RuntimeError, MemoryError, ImportError, AttributeError)

_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Subject:
    """What the lines of one request, or of one attempt of a step, are about. `""` stands for what is not known.

    `traceparent` is W3C trace context, version 00. Without one that came from outside, a request gets one when somebody
    first asks for it: a line that is written, or work that goes to another process. Most requests never need one.
    """

    __slots__ = ("attempt", "request", "run", "step", "traceparent")

    def __init__(
        self, request: str = "", run: str = "", step: str = "", attempt: int = 0, traceparent: str | None = None
    ) -> None:
        self.request = request
        self.run = run
        self.step = step
        self.attempt = attempt
        self.traceparent = traceparent

    def trace_to_pass_on(self) -> str:
        """The traceparent for work that goes to another process; the same each time."""
        if self.traceparent is None:
            self.traceparent = ids.new_traceparent()
        return self.traceparent

    @property
    def trace(self) -> str:
        """The trace id: 32 hex characters. A step that came without one has none."""
        if self.request:
            self.trace_to_pass_on()
        return (self.traceparent or "")[3:35]


_subject: ContextVar[Subject | None] = ContextVar("subject", default=None)


def about(subject: Subject) -> Token[Subject | None]:
    """From now on the lines of this task or thread are about `subject`, until `done` is called with what this gives."""
    return _subject.set(subject)


def done(token: Token[Subject | None]) -> None:
    _subject.reset(token)


def subject() -> Subject:
    """What this task or thread is at; an unnamed subject when nobody said."""
    return _subject.get() or Subject()


def set_up_logs(process: str, level: str, form: Literal["text", "json"] = "text", worker: str = "") -> None:
    """One handler for everybody's lines: our own modules at `level`, libraries from warnings on.

    Call it after the imports: handlers that libraries have hung up for themselves are taken down. `process` is the kind
    (`server`, `worker`), `worker` the id of the worker that this process is.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((_Json if form == "json" else _Text)(process, quotes=level == "debug"))
    handler.addFilter(_Ids(worker))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for known in logging.root.manager.loggerDict.values():
        if isinstance(known, logging.Logger):
            known.handlers.clear()
            known.propagate = True
    for name in ("app", "workers"):
        logging.getLogger(name).setLevel(level.upper())


class _Ids(logging.Filter):
    """Writes the ids of the subject into every record that does not name its own."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        known: dict[str, Any] = {"worker": self._worker}
        now = _subject.get()
        if now is not None:
            known |= {"request": now.request, "run": now.run, "step": now.step, "attempt": now.attempt}
            known["trace"] = now.trace
        for name, value in known.items():
            if value and not hasattr(record, name):
                setattr(record, name, value)
        return True


def _told(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that the record has, in the order in which they are shown."""
    told = {name: getattr(record, name, None) for name in (*_FIELDS, *_MORE)}
    return {name: value for name, value in told.items() if value is not None}


def _story(error: BaseException | None, quotes: bool) -> str:
    """Where an error came from and what it is; what it says only if it can't quote a caller, or `quotes` allows it."""
    told: list[str] = []
    while error is not None and len(told) < 10:
        says = str(error) if quotes or isinstance(error, _OF_THE_MACHINE) else "(what it says is told at level debug)"
        frames = "".join(traceback.format_tb(error.__traceback__))
        told.append(
            f"Traceback (most recent call last):\n{frames}{type(error).__module__}.{type(error).__name__}: {says}"
        )
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to\n\n".join(reversed(told))


class _Text(logging.Formatter):
    def __init__(self, process: str, *, quotes: bool) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(message)s")
        self._quotes = quotes

    def format(self, record: logging.LogRecord) -> str:
        first, newline, rest = super().format(record).partition("\n")
        line = " ".join([first, *(f"{name}={value}" for name, value in _told(record).items())]) + newline + rest
        return _SECRETS.sub("(hidden)", line)

    def formatException(self, ei: _ErrorInfo) -> str:
        return _story(ei[1], self._quotes)


class _Json(JsonFormatter):
    def __init__(self, process: str, *, quotes: bool) -> None:
        super().__init__(json_ensure_ascii=False)
        self._process = process
        self._quotes = quotes

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub("(hidden)", super().format(record))

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Exactly our fields: what else a library hung on its record is nobody's business."""
        moment = datetime.fromtimestamp(record.created, UTC)
        log_data["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data["level"] = record.levelname.lower()
        log_data["process"] = self._process
        log_data["logger"] = record.name
        log_data["message"] = record.getMessage()
        log_data |= _told(record)
        if message_dict.get("exc_info"):
            log_data["traceback"] = message_dict["exc_info"]

    def formatException(self, ei: _ErrorInfo) -> str:
        return _story(ei[1], self._quotes)
