"""`/metrics` for Prometheus: what this process has counted, and how things stand in the database now.

The registry is our own, so nothing appears that a library registered. A scrape costs one read of the database at most,
and none within a second of the last. Names, units and labels are promises: dashboards hang on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from app import clock
from app.api.operation import OpenOperation
from app.counted import Counted
from app.domain.run import RunStatus, is_terminal
from app.errors import AtelierError
from app.store import seen
from app.store.seen import Counts
from app.store.store import Store
from app.tally import Tally

logger = logging.getLogger(__name__)

_FRESH_S = 1.0
_WORK = ("work_class", "checkpoint")


def metrics_operations(store: Store, tally: Tally) -> list[OpenOperation]:
    """`GET /metrics`, in Prometheus' text or in OpenMetrics, as the scraper asks."""
    standing = _Standing(store)
    registry = CollectorRegistry()
    registry.register(Counted(tally, store))
    registry.register(standing)
    ProcessCollector(namespace="atelier", registry=registry)

    async def metrics(request: Request) -> Response:
        await standing.refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return [
        OpenOperation(
            method="GET",
            path="/metrics",
            handler=metrics,
            summary="Reading the metrics",
            description="For Prometheus. `ATELIER_METRICS=off` switches it off.",
            tag="Server",
            answers={200: ("text/plain", "application/openmetrics-text")},
        )
    ]


class _Standing(Collector):
    """How things stand in the database, for all processes together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counts | None = None
        self._fresh_until_s = 0.0
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Reads, unless that was done a moment ago. While the database can't be read, `atelier_database_up` is 0."""
        async with self._reading:
            if clock.monotonic() < self._fresh_until_s:
                return
            try:
                self._counts = await self._store.read(seen.counts)
            except AtelierError as error:
                self._counts = None
                logger.warning("metrics without the database", extra={"action": "counts", "error": error.message})
            self._fresh_until_s = clock.monotonic() + _FRESH_S

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield _gauge("atelier_database_up", "1 when the database could be read for this scrape.", counts is not None)
        if counts is None:
            return
        yield _gauge("atelier_runs_running", "Runs under way, waiting ones included.", counts.running)
        ended = GaugeMetricFamily(
            "atelier_runs_ended_last_hour",
            "Runs that waited for a worker and ended within an hour.",
            labels=("status",),
        )
        for status in filter(is_terminal, RunStatus):
            ended.add_metric((status.value,), counts.ended.get(status.value, 0))
        yield ended
        depth = GaugeMetricFamily("atelier_steps_ready", "Steps that wait for a worker.", labels=_WORK)
        oldest = GaugeMetricFamily(
            "atelier_oldest_ready_step_seconds", "How long the oldest of them has been ready.", labels=_WORK
        )
        for work in counts.waiting:
            depth.add_metric((work.work_class, work.checkpoint), work.steps)
            oldest.add_metric((work.work_class, work.checkpoint), work.oldest_s)
        yield depth
        yield oldest
        held = GaugeMetricFamily("atelier_steps_running", "Steps that a worker holds.", labels=_WORK)
        for work in counts.held:
            held.add_metric((work.work_class, work.checkpoint), work.steps)
        yield held
        yield _gauge(
            "atelier_expired_leases", "Steps whose lease has run out and that wait to be given back.", counts.expired
        )


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=float(value))
