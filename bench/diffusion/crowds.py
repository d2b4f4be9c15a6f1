"""How fast: one request alone, several at once, and a mixed load, each against plain diffusers one after the other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

from bench.diffusion.stage import Stage, side_by_side
from bench.diffusion.table import Row
from workers.diffusion.drawing.denoiser import Batch
from workers.diffusion.request import ImageRequest

ALONE_ROUNDS, CROWD_ROUNDS = 9, 2
CROWDS = (1, 2, 4, 8, 16)
JOINS, BUSY = 12, 3


def alone(stage: Stage) -> Iterator[Row]:
    ours_s, theirs_s, ratio = side_by_side(
        lambda i: stage.paint(stage.asked(i)), lambda i: stage.paint_plainly(stage.asked(i)), ALONE_ROUNDS
    )
    yield Row("one request alone, time", f"{ours_s * 1000:.0f} ms", f"{theirs_s * 1000:.0f} ms", ratio, "<= 1.03")


def crowds(stage: Stage) -> Iterator[Row]:
    """So many requests at once; diffusers paints the same ones in a row.

    On a CPU twice: in the checkpoint's own size, where a few cores have enough to calculate with one picture alone, and
    in half of it, where as on a GPU most of a small call is asking for it.
    """
    sides = [stage.request.width] if stage.is_gpu else [stage.request.width, stage.request.width // 2]
    aims = {(16, 512): ">= 2.5", (8, 64): ">= 3.0", (8, 32): ">= 3.0"}
    for side in sides:
        for count in CROWDS:
            requests = [stage.asked(100 * count + i, width=side, height=side) for i in range(count)]
            ours_s, theirs_s, ratio = side_by_side(
                lambda i, requests=requests: stage.paint_at_once(requests),
                lambda i, requests=requests: [stage.paint_plainly(each) for each in requests],
                CROWD_ROUNDS if count > 2 else 2 * CROWD_ROUNDS,
            )
            what = f"{count} at once, {side} px, pictures a second"
            speeds = (f"{count / each_s:.2f}" for each_s in (ours_s, theirs_s))
            yield Row(what, *speeds, 1 / ratio, aims.get((count, side), ""))


def mixed_load(stage: Stage) -> Iterator[Row]:
    """Requests of all steps and guidances come one after the other, faster than they can be painted."""
    chance = random.Random(7)
    most = stage.request.steps
    requests = [
        stage.asked(
            1000 + i,
            steps=chance.randint(most // 3, most * 3 // 2),
            guidance_scale=chance.choice([1.0, 3.0, 5.0, 7.5, 12.0]),
        )
        for i in range(24)
    ]
    steps = sum(request.steps for request in requests)
    began = time.perf_counter()
    for request in requests:
        stage.paint_plainly(request)
    theirs_s = time.perf_counter() - began
    ours_s = _as_they_come(stage, requests, theirs_s / len(requests) / 8)
    aim = ">= 4.0" if stage.is_gpu else ""
    yield Row("mixed load, steps a second", f"{steps / ours_s:.1f}", f"{steps / theirs_s:.1f}", theirs_s / ours_s, aim)


def _as_they_come(stage: Stage, requests: Sequence[ImageRequest], mean_gap_s: float) -> float:
    """Seconds from the first arrival to the last picture."""
    chance, began = random.Random(8), time.perf_counter()
    with ThreadPoolExecutor(len(requests)) as threads:
        waiting = []
        for request in requests:
            waiting.append(threads.submit(stage.paint, request))
            time.sleep(chance.expovariate(1 / mean_gap_s))
        for each in waiting:
            each.result()
    return time.perf_counter() - began


def joining(stage: Stage) -> Iterator[Row]:
    """From a request's coming until a UNet call with its rows begins, while three others are at work."""
    chance, waits, missed, enough = random.Random(9), [], 0, threading.Event()
    alone = 2 * BUSY
    with _calls_noted() as calls, ThreadPoolExecutor(BUSY) as threads:
        busy = [
            threads.submit(stage.engine.paint, stage.asked(2000 + i, steps=300), should_stop=enough.is_set)
            for i in range(BUSY)
        ]
        while not any(rows == alone for _, rows in calls[-3:]):
            time.sleep(0.001)
        for i in range(JOINS):
            time.sleep(chance.uniform(0, 0.1))  # a picture ends with a call: the next request would always come there
            came = time.perf_counter()
            stage.paint(stage.asked(2100 + i, steps=2))
            later = [(at, rows) for at, rows in calls if at > came]
            first = next((i for i, (_, rows) in enumerate(later) if rows > alone), None)
            missed += first != 0
            waits.append(later[first][0] - came if first is not None else time.perf_counter() - came)
        enough.set()
        for each in busy:
            each.exception()
    step_s = _median_gap(calls, alone)
    waits.sort()
    yield Row(
        "joining a busy engine: first call begins after",
        f"{waits[len(waits) // 2] * 1000:.1f} ms",
        f"a step: {step_s * 1000:.1f} ms",
        waits[len(waits) // 2] / step_s,
        "<= 1.0",
    )
    yield Row(f"  the longest of {JOINS}", f"{waits[-1] * 1000:.1f} ms", "", waits[-1] / step_s, "")
    yield Row(f"  of {JOINS}, those not in the very next call", f"{missed}", "", missed / JOINS, "<= 0.0")


@contextmanager
def _calls_noted() -> Iterator[list[tuple[float, int]]]:
    """When each UNet call began, and how many rows it had."""
    calls: list[tuple[float, int]] = []
    predict = Batch.predict

    def noted(batch: Batch, unet):
        calls.append((time.perf_counter(), batch.row_count))
        return predict(batch, unet)

    Batch.predict = noted
    try:
        yield calls
    finally:
        Batch.predict = predict


def _median_gap(calls: Sequence[tuple[float, int]], alone: int) -> float:
    """Between two calls of those that are at work all the time."""
    gaps = sorted(later - earlier for (earlier, rows), (later, _) in pairwise(calls) if rows == alone)
    return gaps[len(gaps) // 2]
