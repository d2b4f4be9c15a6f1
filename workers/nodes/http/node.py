"""One request for one step: sent to public addresses alone, with an answer that is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from app import ids
from app.artifacts.store import ArtifactStore
from app.domain.artifact import Artifact, unforged
from app.domain.run import Succeeded
from app.errors import NodeFailed, NotFound
from app.graph.nodes.http_request import HttpRequest
from app.outbound.fetch import Answer, AnswerTooLarge, Asked, Bounds, FetchFailed, fetch
from app.outbound.reach import reach_of
from app.settings import Settings
from workers.nodes.http.answer import is_file, named, text_of
from workers.nodes.http.message import Message, compose
from workers.run_step import Job, NodeRun, StepHalted

_LOOK_S = 0.1  # how often it is asked whether the step has been ended from outside


class SendRequest:
    """A second attempt sends the request again: only its receiver can know that it is the same."""

    def __init__(self, artifacts: ArtifactStore, settings: Settings) -> None:
        self._artifacts = artifacts
        self._reach = reach_of(settings)
        self._settings = settings
        self._most_bytes = max(settings.http_max_file_bytes, settings.http_max_text_bytes)

    def run(self, job: Job) -> NodeRun:
        work = job.work
        if not isinstance(work, HttpRequest):
            raise NodeFailed(f"The node '{job.step.node_id}' is no http-request.")
        message = compose(work, job.arguments, self._load)
        process_data = {"request": message.shown}
        try:
            answer = asyncio.run(self._send(message, work, job))
            return self._made(job, work, answer, process_data)
        except NodeFailed as failed:
            failed.process_data = process_data
            raise

    async def _send(self, message: Message, work: HttpRequest, job: Job) -> Answer:
        """Raises NodeFailed, StepHalted."""
        sending = asyncio.create_task(self._fetch(message.asked, work))
        while True:
            await asyncio.wait((sending,), timeout=_LOOK_S)
            if sending.done():
                return sending.result()
            if job.is_halted():
                sending.cancel()
                raise StepHalted
            job.alive()  # its own limits of time say how long to wait

    async def _fetch(self, asked: Asked, work: HttpRequest) -> Answer:
        limits = work.timeout
        bounds = Bounds(
            most_bytes=self._most_bytes,
            connect_s=limits.connect_s,
            read_s=limits.read_s,
            write_s=limits.write_s,
            verify=work.verifies,
        )
        try:
            return await fetch(asked, self._reach, bounds)
        except AnswerTooLarge as error:
            raise self._too_large(error.answer, error.size) from None
        except FetchFailed as error:
            raise NodeFailed(str(error), error_type="HttpRequestNodeError") from None

    def _made(self, job: Job, work: HttpRequest, answer: Answer, process_data: dict[str, Any]) -> NodeRun:
        is_a_file = bool(answer.body) and is_file(answer)
        if len(answer.body) > self._limit(is_a_file):
            raise self._too_large(answer, len(answer.body))
        outputs: dict[str, Any] = {
            "status_code": answer.status,
            "body": "" if is_a_file else text_of(answer),
            "headers": unforged(answer.headers),
            "files": [],
        }
        if work.is_strict and not 200 <= answer.status < 300:
            said = f"Request failed with status code {answer.status}"
            raise NodeFailed(said, error_type="HTTPResponseCodeError", outputs=outputs)
        if not is_a_file:
            return NodeRun(Succeeded(outputs, process_data))
        with job.watch.uploading():
            made = self._store(job, answer)
        return NodeRun(Succeeded({**outputs, "files": [made.to_value()]}, process_data), (made,))

    def _limit(self, is_a_file: bool) -> int:
        return self._settings.http_max_file_bytes if is_a_file else self._settings.http_max_text_bytes

    def _too_large(self, answer: Answer, size: int | None) -> NodeFailed:
        """In Dify's words. What was cut off has no known size."""
        is_a_file = is_file(answer)
        limit = self._limit(is_a_file)
        current = _readable(size) if size is not None else f"more than {_readable(self._most_bytes)}"
        return NodeFailed(
            f"{'File' if is_a_file else 'Text'} size is too large, max size is {limit / 1024 / 1024:.2f} MB, "
            f"but current size is {current}.",
            error_type="ResponseSizeError",
        )

    def _store(self, job: Job, answer: Answer) -> Artifact:
        artifact_id, name = ids.new_id(), named(answer)
        return Artifact(
            id=artifact_id,
            run_id=job.step.run_id,
            step_id=job.step.id,
            sha256=self._artifacts.put(answer.body),
            size=len(answer.body),
            mime_type=name.mime_type,
            extension=name.extension,
            filename=name.filename or f"{artifact_id.replace('-', '')}{name.extension}",
        )

    def _load(self, file: Mapping[str, Any]) -> bytes:
        try:
            return self._artifacts.get(file["sha256"])
        except NotFound:
            raise NodeFailed(f"cannot fetch file '{file['filename']}'", error_type="FileFetchError") from None


def _readable(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.2f} KB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.2f} MB"
