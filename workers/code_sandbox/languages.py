"""A call's code, run inside all walls: what it answers as JSON, or what went wrong as people read it."""

from __future__ import annotations

import io
import json
import linecache
import sys
import traceback
import types
from typing import Any

LONGEST_ERROR = 16_384  # characters


class CodeError(Exception):
    """The code went wrong; the text says how."""


def run_python(code: str, inputs: str) -> str:
    """`main` of the code over the inputs, as JSON. What it prints goes nowhere."""
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), _Nowhere(), _Nowhere()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    linecache.cache["<code>"] = len(code), None, code.splitlines(keepends=True), "<code>"
    try:
        exec(compile(code, "<code>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - what this process is for
        if "main" not in module.__dict__:
            raise NameError("name 'main' is not defined")
        return json.dumps(module.__dict__["main"](**json.loads(inputs)), ensure_ascii=False)
    except BaseException as error:
        raise CodeError(_as_people_read_it(error)) from None


def run_javascript(code: str, inputs: str, context: Any, error_type: type[Exception]) -> str:
    """The same by the engine, whose context has run nothing before; a promise is waited for."""
    context.set_max_stack_size(1024 * 1024)
    try:
        context.eval(_PRELUDE)
        context.eval(code)
        context.set("__inputs", inputs)
        context.eval(_CALL)
        while context.eval("__state.answer === undefined && __state.error === undefined"):
            if not context.execute_pending_job():
                raise CodeError("The promise that main gave back was never fulfilled.")
        error = context.eval("__state.error")
        if error is not None:
            raise CodeError(_NO_MEMORY_TO_SAY_SO if error == "null" else str(error))
        return str(context.eval("__state.answer"))
    except error_type as error:
        raise CodeError(str(error).strip()) from None


_PRELUDE = """
globalThis.console = Object.fromEntries(
    ["log", "info", "warn", "error", "debug", "trace", "table", "dir"].map((name) => [name, () => undefined]));
"""
_CALL = """
globalThis.__state = {};
(async () => JSON.stringify(await main(JSON.parse(__inputs))) ?? "null")().then(
    (answer) => { __state.answer = answer; },
    (error) => {
        const isError = error instanceof Error;
        __state.error = (isError ? `${error}\\n${error.stack}` : JSON.stringify(error)) ?? "undefined";
    });
"""


_NO_MEMORY_TO_SAY_SO = "null was thrown: by the code itself, or because it is out of memory, with none left to say so"


class _Nowhere(io.TextIOBase):
    """Takes any text and keeps none of it."""

    def write(self, text: str) -> int:
        return len(text)

    def writable(self) -> bool:
        return True


def _as_people_read_it(error: BaseException) -> str:
    """A traceback without the frames that are ours."""
    try:
        shown = traceback.TracebackException.from_exception(error)
        own = [frame for frame in shown.stack if "code_sandbox" not in frame.filename]
        shown.stack = traceback.StackSummary.from_list(own)
        return "".join(shown.format()).strip()
    except BaseException:  # no memory left, or an exception that can't be shown
        return type(error).__name__
