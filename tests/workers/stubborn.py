"""The painter's worker, with requests that hear nothing: one to a URL that ends with `#hang` never lets go."""

from __future__ import annotations

import sys
import time

import workers.main
import workers.nodes.cpu
from app.settings import Settings
from tests.chaos.painter import Painter
from workers.nodes.http.node import SendRequest
from workers.run_step import Job, NodeRun


class Stubborn(SendRequest):
    def run(self, job: Job) -> NodeRun:
        while str(job.arguments["url"]).endswith("#hang"):
            time.sleep(0.1)
        return super().run(job)


if __name__ == "__main__":
    workers.main._engine = lambda settings, catalogue: Painter(Settings().data_dir)  # type: ignore[assignment, return-value]
    workers.nodes.cpu.SendRequest = Stubborn  # type: ignore[misc]
    workers.main.main(int(sys.argv[1]), *sys.argv[2:])
