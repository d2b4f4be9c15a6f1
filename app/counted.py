"""What a process has counted, as Prometheus reads it: a server at `/metrics`, a worker on a port of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.errors import SettingsInvalid
from app.store.store import Store
from app.tally import Spread, Tally


def serve_counted(tally: Tally, store: Store, host: str, port: int) -> None:
    """Answers scrapes on the port, on a thread of its own, while the process lives. Raises SettingsInvalid."""
    registry = CollectorRegistry()
    registry.register(Counted(tally, store))
    ProcessCollector(namespace="atelier", registry=registry)
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsInvalid(f"ATELIER_WORKER_METRICS_PORT {port} can't be used: {error.strerror}.") from None


class Counted(Collector):
    """The tally of this process under its public names."""

    def __init__(self, tally: Tally, store: Store) -> None:
        self._tally = tally
        self._store = store

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        tally = self._tally
        answers = HistogramMetricFamily(
            "atelier_http_request_seconds",
            "Time from a request to the beginning of its answer; streams go on after that.",
            labels=("route", "method", "status"),
        )
        for (route, method, status), spread in tally.answers():
            _add(answers, (route, method, str(status)), spread)
        yield answers
        yield self._counter(
            "accepted",
            "atelier_runs_accepted",
            "Runs accepted here, by how they stood then: running ones wait for a worker, others needed none.",
            ("dialect", "status"),
        )
        yield self._counter(
            "lease_expired", "atelier_leases_expired", "Leases found expired here: a worker fell silent."
        )
        yield self._counter(
            "given_back", "atelier_steps_given_back", "Steps made ready again after a lost attempt.", ("reason",)
        )
        yield self._counter(
            "refused", "atelier_outcomes_refused", "Late outcomes that were refused: the step was lost."
        )
        yield self._counter(
            "rung_again",
            "atelier_doorbells_rung_again",
            "Doorbells rung again because a ready step waited: a backlog, or a hint that got lost.",
            ("work_class",),
        )
        yield self._counter(
            "delivery",
            "atelier_webhook_deliveries",
            "Attempts to deliver to a webhook, by how they went; what is put off is tried again.",
            ("result",),
        )
        attempts = HistogramMetricFamily(
            "atelier_attempt_seconds",
            "How long this process's worker held a step, however that ended.",
            labels=("kind",),
        )
        for kind, spread in tally.attempts():
            _add(attempts, (kind,), spread)
        yield attempts
        lag = HistogramMetricFamily(
            "atelier_event_lag_seconds",
            "Time from a fact to its being passed on to those who follow its run; replays don't count.",
        )
        _add(lag, (), tally.event_lag)
        yield lag
        written = CounterMetricFamily("atelier_transactions", "Transactions begun here for writing; many share one.")
        written.add_metric((), self._store.transactions)
        yield written
        read = CounterMetricFamily("atelier_reads", "Queries of the store that requests and upkeep began here.")
        read.add_metric((), self._store.reads)
        yield read

    def _counter(self, what: str, name: str, says: str, labels: tuple[str, ...] = ()) -> CounterMetricFamily:
        family = CounterMetricFamily(name, says, labels=labels)
        counts = self._tally.counts(what) or ([] if labels else [((), 0)])
        for values, number in counts:
            family.add_metric(values, number)
        return family


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], spread: Spread) -> None:
    family.add_metric(labels, spread.cumulative(), spread.total)
