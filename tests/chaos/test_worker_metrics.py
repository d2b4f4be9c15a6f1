"""What a worker of its own has counted, as Prometheus asks for it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from app.cluster.daemon import free_port
from tests.chaos.harness import QUICK, arena
from tests.clusters import until


@pytest.mark.slow
def test_a_worker_shows_how_long_its_attempts_took(tmp_path: Path) -> None:
    port = free_port()
    with arena(tmp_path, "--workers", "1", worker_metrics_port=str(port)) as house:
        house.ask(QUICK)
        url = f"http://127.0.0.1:{port}/metrics"
        until("it is counted", lambda: 'atelier_attempt_seconds_count{kind="tool"} 1.0' in httpx.get(url).text)
