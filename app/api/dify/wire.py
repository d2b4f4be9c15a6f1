"""Answers and events in Dify's field names (contract: Dify 1.14). `asked.py` has what comes in."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from app import clock, ids
from app.api.answer import seconds
from app.api.dify import containers
from app.api.dify.errors import envelope
from app.api.dify.parts import render_parts
from app.api.dify.pauses import form_event, lasted_s, run_paused, waits_for
from app.api.dify.shapes import AcceptedRun, RunObject, ToldRun
from app.artifacts.urls import UrlSigner
from app.domain.artifact import MARK, is_artifact
from app.domain.detail import Detail
from app.domain.event import Event, EventKind, QueuePosition, Tick
from app.domain.run import Run, Step
from app.errors import AtelierError
from app.events.feed import Silence
from app.events.topic import Fact
from app.graph.markdown import markdown
from app.graph.values import type_of
from app.runs.queue_view import Place
from app.runs.record import system_variables

PING = b"event: ping\n\n"
_RETRY_MS = 1000
HELLO = b"event: ping\nretry: %d\n\n" % _RETRY_MS
"""How a stream begins: at once, so that the connection is no longer pending, with how long to wait before a resume."""

_FRESH_S = 5.0  # a frame that was made so long ago is made again: the URLs in it are to be new

_encoder = msgspec.json.Encoder()


def encode(body: Any) -> bytes:
    return _encoder.encode(body)


class Wire:
    """Renders runs for Dify's clients. File URLs are signed each time that something is rendered."""

    def __init__(self, signer: UrlSigner) -> None:
        self._signer = signer
        self._last_tick: tuple[Tick | QueuePosition | None, bytes] = (None, b"")

    def blocking_answer(self, run: Run) -> dict[str, Any]:
        return {
            "task_id": run.task_id,
            "workflow_run_id": run.id,
            "data": {
                "id": run.id,
                "workflow_id": run.workflow_id,
                "status": run.status,
                "outputs": self._value(run, run.outputs),
                "error": run.error,
                "elapsed_time": run.elapsed_s,
                "total_tokens": run.total_tokens,
                "total_steps": run.total_steps,
                "created_at": int(run.created_at),
                "finished_at": seconds(run.finished_at),
            },
        }

    def paused_answer(self, run: Run, pause: Mapping[str, Any]) -> dict[str, Any]:
        """A blocking answer of a run that waits for a person: which forms, and where to read on."""
        answer = self.blocking_answer(run)
        told = {**waits_for(pause), "elapsed_time": lasted_s(run, pause.get("at"))}
        answer["data"] = {**answer["data"], **told}
        return {**answer, "location": self.place_of(run)}

    def running_answer(self, run: Run) -> dict[str, Any]:
        """A blocking answer whose time is over before the run's: the run as it stands, and where to read on."""
        return {**self.blocking_answer(run), "location": self.place_of(run)}

    def asynchronous_answer(self, run: Run, place: Place | None) -> AcceptedRun:
        """202: the run object, what a caller needs to come back, and where the run stands if it waits."""
        return AcceptedRun(
            **self._difys(run),
            task_id=run.task_id,
            location=self.place_of(run),
            queue_position=place.queue_position if place else None,
            estimated_start=place.estimated_start if place else None,
        )

    def stop_answer(self, run: Run) -> dict[str, Any]:
        """Dify's answer, and the truth: how the run stands now."""
        return {"result": "success", "workflow_run_id": run.id, "task_id": run.task_id, "status": run.status.value}

    def place_of(self, run: Run) -> str:
        """Where the run can be read."""
        return self._signer.absolute(f"/v1/workflows/run/{run.id}")

    def detail(self, run: Run, more: Detail | None = None, place: Place | None = None) -> RunObject:
        """`GET /workflows/run/{id}`; `more` is what was asked for beyond Dify's fields, read together with the run."""
        return RunObject(**self._difys(run), **(render_parts(more, self._signer, place) if more else {}))

    def listed(self, run: Run, dialect: str) -> RunObject:
        """The same in a list."""
        return RunObject(**self._difys(run), dialect=dialect)

    def _difys(self, run: Run) -> dict[str, Any]:
        """Dify's fields of a run object: the inputs are a string of JSON there, the outputs an object."""
        return {
            "id": run.id,
            "workflow_id": run.workflow_id,
            "status": run.status.value,
            "inputs": encode(self._inputs(run)).decode(),
            "outputs": self._value(run, run.outputs),
            "error": run.error,
            "total_steps": run.total_steps,
            "total_tokens": run.total_tokens,
            "created_at": int(run.created_at),
            "finished_at": seconds(run.finished_at),
            "elapsed_time": run.elapsed_s,
        }

    def told(self, more: Detail) -> ToldRun:
        """The run as webhooks are told it, with everything."""
        run = more.run
        parts = render_parts(more, self._signer)
        return ToldRun(**self._difys(run), **parts, task_id=run.task_id, error_code=run.error_code)

    def log_entry(self, run: Run, dialect: str) -> dict[str, Any]:
        return {
            "id": run.task_id,
            "workflow_run": {
                "id": run.id,
                "version": run.workflow_id,
                "status": run.status.value,
                "triggered_from": "app-run",
                "error": run.error,
                "elapsed_time": run.elapsed_s,
                "total_tokens": run.total_tokens,
                "total_steps": run.total_steps,
                "created_at": int(run.created_at),
                "finished_at": seconds(run.finished_at),
                "exceptions_count": run.exceptions_count,
            },
            "details": None,
            "created_from": "service-api",
            "created_by_role": "end_user",
            "created_by_account": None,
            "created_by_end_user": {
                "id": ids.end_user_id(run.app_id, run.user),
                "type": "service_api",
                "is_anonymous": False,
                "session_id": run.user,
            },
            "created_at": int(run.created_at),
            "dialect": dialect,
        }

    def frame(self, news: Fact | Tick | QueuePosition | Silence, run: Run) -> bytes:
        """An event as one SSE frame: `data: {json}` and an empty line, a fact with its number before it as `id:`.

        All listeners of a fact are sent the same bytes, made once: none for a fact that Dify does not tell.
        """
        if isinstance(news, Silence):
            return PING
        if isinstance(news, Tick | QueuePosition):
            if self._last_tick[0] is not news:
                self._last_tick = (news, _passing_frame(news, run))
            return self._last_tick[1]
        now_s = clock.monotonic()
        made = news.frames.get("dify")
        if made is None or made[0] < now_s - _FRESH_S:
            event = news.event
            named = self._named(news)
            made = now_s, b"" if named is None else _frame(event.seq, named[0], run, named[1])
            news.frames["dify"] = made
        return made[1]

    def snapshot_frame(self, fact: Fact, run: Run) -> bytes | None:
        """A fact as a snapshot tells it, nodes without their values; None for what it leaves out."""
        kind, step = fact.event.kind, fact.event.step
        if kind in _WHOLE_IN_SNAPSHOTS:
            return self.frame(fact, run)
        if step is None or kind not in (EventKind.STEP_STARTED, EventKind.STEP_FINISHED):
            return None
        bare = msgspec.structs.replace(step, inputs=None, outputs=None, process_data=None)
        named = self._named(msgspec.structs.replace(fact, event=msgspec.structs.replace(fact.event, step=bare)))
        return None if named is None else _frame(fact.event.seq, named[0], run, named[1])

    def end_frame(self, run: Run) -> bytes:
        """The end of a run that nobody follows any more. As in Dify its task is named by the run's own id."""
        return _frame(
            run.last_seq,
            "workflow_finished",
            msgspec.structs.replace(run, task_id=run.id),
            self._run_finished(run),
        )

    def error_frame(self, run: Run, error: AtelierError) -> bytes:
        """What a stream says that can't go on."""
        body = {"event": "error", "workflow_run_id": run.id, "task_id": run.task_id}
        return b"data: " + encode({**body, **envelope(error)}) + b"\n\n"

    def _named(self, fact: Fact) -> tuple[str, dict[str, Any]] | None:
        """(name, fields) of the event; None for one that Dify does not tell."""
        event = fact.event
        if containers.is_inside_call(event):
            return None
        if event.kind in containers.ROUND_EVENTS:
            return containers.round_event(event, lambda value: self._value(fact.run, value))
        if event.kind is EventKind.STEP_FINISHED and event.step is not None and event.step.kind in containers.KINDS:
            return containers.completed(event.step, lambda value: self._value(fact.run, value))
        return _EVENT_NAMES[event.kind], self._fields(fact)

    def _fields(self, fact: Fact) -> dict[str, Any]:
        run, step = fact.run, fact.event.step
        match fact.event.kind:
            case EventKind.RUN_STARTED:
                return self._run_started(run)
            case EventKind.RUN_FINISHED:
                return self._run_finished(run)
            case EventKind.TEXT_CHUNK:
                return self._text_chunk(run, fact.event)
            case EventKind.RUN_RESUMED:
                return {**self._run_started(run), "reason": "resumption"}
            case EventKind.RUN_PAUSED:
                return run_paused(run, fact.event.payload or {})
        if step is None:
            raise LookupError(f"event {fact.event.seq} of run {run.id} speaks of a step that is not there")
        if fact.event.kind == EventKind.STEP_STARTED:
            return _step_started(step)
        if fact.event.kind in _FORM_EVENTS:
            return form_event(fact.event, step)
        finished = self._step_finished(run, step)
        if fact.event.kind == EventKind.STEP_RETRIED:
            lost = fact.event.payload or {}
            finished |= {"status": "retry", "error": lost.get("error"), "retry_index": lost.get("retry_index")}
            finished |= {"outputs": None, "finished_at": seconds(lost.get("at")), "files": []}
        return finished

    def _run_started(self, run: Run) -> dict[str, Any]:
        return {
            "id": run.id,
            "workflow_id": run.workflow_id,
            "inputs": self._inputs(run),
            "created_at": int(run.created_at),
            "reason": "initial",
        }

    def _run_finished(self, run: Run) -> dict[str, Any]:
        outputs = self._value(run, run.outputs)
        return {
            "id": run.id,
            "workflow_id": run.workflow_id,
            "status": run.status.value,
            "outputs": outputs,
            "error": run.error,
            "elapsed_time": run.elapsed_s,
            "total_tokens": run.total_tokens,
            "total_steps": run.total_steps,
            "created_by": {"id": ids.end_user_id(run.app_id, run.user), "user": run.user},
            "created_at": int(run.created_at),
            "finished_at": seconds(run.finished_at),
            "exceptions_count": run.exceptions_count,
            "files": _files(outputs),
        }

    def _step_finished(self, run: Run, step: Step) -> dict[str, Any]:
        outputs = None if step.outputs is None else self._value(run, step.outputs)
        return _step_head(step) | {
            "inputs": None if step.inputs is None else self._value(run, step.inputs),
            "inputs_truncated": False,
            "process_data": None if step.process_data is None else self._value(run, step.process_data),
            "process_data_truncated": False,
            "outputs": outputs,
            "outputs_truncated": False,
            "status": step.status.value,
            "error": step.error,
            "elapsed_time": (step.finished_at or step.created_at) - step.created_at,
            "execution_metadata": step.metadata,
            "created_at": int(step.created_at),
            "finished_at": seconds(step.finished_at),
            "files": _files(outputs or {}),
            **containers.place(step),
        }

    def _text_chunk(self, run: Run, event: Event) -> dict[str, Any]:
        chunk = event.payload or {}
        text = markdown(chunk.get("value"), self._signer.of_file)
        return {"text": text, "from_variable_selector": list(chunk.get("selector", ()))}

    def _inputs(self, run: Run) -> dict[str, Any]:
        system = {f"sys.{name}": self._value(run, value) for name, value in system_variables(run).items()}
        return {**self._value(run, run.inputs), **system}

    def _value(self, run: Run, value: Any) -> Any:
        """The value with every file as Dify shows it: the current shape, and the keys that 0.6 had."""
        if isinstance(value, str):
            return value
        if is_artifact(value):
            return self._file(run, value)
        if isinstance(value, dict):
            return {key: self._value(run, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(run, item) for item in value]
        return value

    def _file(self, run: Run, file: dict[str, Any]) -> dict[str, Any]:
        record = base64.urlsafe_b64encode(encode({"record_id": file[MARK]})).decode()
        method, url = file.get("transfer_method", "tool_file"), self._signer.of_file(file)
        return {
            "dify_model_identity": "__dify__file__",
            "__variant": "FileVar",
            "id": None,
            "tenant_id": run.app_id,
            "type": type_of(file),
            "transfer_method": method,
            "remote_url": None if method == "tool_file" else url,
            "reference": f"dify-file-ref:{record}",
            "filename": file["filename"],
            "extension": file["extension"],
            "mime_type": file["mime_type"],
            "size": file["size"],
            "related_id": file[MARK],
            "url": url,
        }


_EVENT_NAMES = {
    EventKind.RUN_STARTED: "workflow_started",
    EventKind.STEP_STARTED: "node_started",
    EventKind.STEP_RETRIED: "node_retry",
    EventKind.STEP_FINISHED: "node_finished",
    EventKind.TEXT_CHUNK: "text_chunk",
    EventKind.RUN_FINISHED: "workflow_finished",
    EventKind.RUN_PAUSED: "workflow_paused",
    EventKind.RUN_RESUMED: "workflow_started",
    EventKind.FORM_REQUIRED: "human_input_required",
    EventKind.FORM_FILLED: "human_input_form_filled",
    EventKind.FORM_EXPIRED: "human_input_form_timeout",
}
_FORM_EVENTS = frozenset({EventKind.FORM_REQUIRED, EventKind.FORM_FILLED, EventKind.FORM_EXPIRED})
_WHOLE_IN_SNAPSHOTS = _FORM_EVENTS | {EventKind.RUN_STARTED, EventKind.RUN_PAUSED, EventKind.RUN_RESUMED}


def retry_frame() -> bytes:
    """What a stream ends with that can't go on here: come back soon, and not all at once."""
    return b"retry: %d\n\n" % random.randint(_RETRY_MS // 2, _RETRY_MS * 3 // 2)


def _frame(seq: int | None, name: str, run: Run, fields: dict[str, Any]) -> bytes:
    envelope = {"event": name, "workflow_run_id": run.id, "task_id": run.task_id, "data": fields}
    head = b"data: " if seq is None else b"id: %d\ndata: " % seq
    return head + encode(envelope) + b"\n\n"


def _step_head(step: Step) -> dict[str, Any]:
    """What every event of a node begins with."""
    return {
        "id": step.id,
        "node_id": step.node_id,
        "node_type": step.kind,
        "title": step.title,
        "index": step.index,
        "predecessor_node_id": step.predecessor_node_id,
    }


def _step_started(step: Step) -> dict[str, Any]:
    return _step_head(step) | {
        "inputs": None,
        "inputs_truncated": False,
        "created_at": int(step.created_at),
        "extras": {},
        **containers.place(step),
        "agent_strategy": None,
    }


def _passing_frame(news: Tick | QueuePosition, run: Run) -> bytes:
    """What is told and not kept: without a number, so that a resume knows nothing of it."""
    if isinstance(news, Tick):
        return _frame(None, "node_progress", run, _progress(news))
    place = {"queue_position": news.queue_position, "estimated_start": news.estimated_start}
    return _frame(None, "queue_position", run, place)


def _progress(tick: Tick) -> dict[str, Any]:
    return {
        "id": tick.step_id,
        "node_id": tick.node_id,
        "step": tick.step,
        "steps": tick.steps,
        "eta_s": tick.eta_s,
        **({"preview": tick.preview} if tick.preview else {}),
    }


def _files(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The files at the top level of rendered outputs: a file, or the items of a list that are files."""
    items = (item for value in outputs.values() for item in (value if isinstance(value, list) else [value]))
    return [item for item in items if isinstance(item, dict) and "dify_model_identity" in item]
