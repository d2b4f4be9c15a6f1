"""Node kinds that Dify has and Atelier does not, each with the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_TRIGGER = "runs are started by POST /v1/workflows/run: put a start node in its place"

WAYS_OUT: Mapping[str, str] = {
    "knowledge-retrieval": "there are no knowledge bases here: ask yours with an http-request node",
    "knowledge-index": "it fills a knowledge base, and there is none here: run its pipeline in Dify",
    "datasource": "it feeds a knowledge base, and there is none here: give its files to a start node",
    "agent": "agent strategies are plugins of Dify: use an llm node, with tool or http-request nodes for what it calls",
    "trigger-webhook": _TRIGGER,
    "trigger-schedule": f"{_TRIGGER}, and let cron send the request",
    "trigger-plugin": _TRIGGER,
}


def refusal(kind: str, supported: Iterable[str]) -> str:
    """What is told of a node whose kind is not supported."""
    known = f"supported kinds: {', '.join(sorted(supported))}"
    if kind in WAYS_OUT:
        return f"kind '{kind}' is not supported: {WAYS_OUT[kind]}; {known}"
    return f"kind '{kind}' is not supported; {known}"
