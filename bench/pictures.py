"""A picture over HTTP against a direct diffusers call: same checkpoint, settings, threads; alternating."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from app.checkpoints.catalogue import SHIPPED_FOLDER

THREADS, ROUNDS = 2, 12
SETTINGS = {"prompt": "a red circle on a blue background", "steps": 30, "scheduler": "dpmpp_2m", "guidance_scale": 4.0}
SETTINGS |= {"width": 64, "height": 64, "seed": 7}

# The direct call lives in a process of its own, as the worker does; it paints when a line comes.
DIRECT = f"""
import sys, time, torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging
torch.set_num_threads({THREADS})
logging.disable_progress_bar(); logging.set_verbosity_error()
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], dtype=torch.float32, safety_checker=None)
pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
pipeline.set_progress_bar_config(disable=True)
def paint():
    pipeline("a red circle on a blue background", num_inference_steps=30, guidance_scale=4.0, width=64, height=64,
             generator=torch.Generator().manual_seed(7))
paint()
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter(); paint(); print(time.perf_counter() - began, flush=True)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"ATELIER_DATA_DIR": folder, "ATELIER_PORT": "0", "PYTHONUNBUFFERED": "1"}
        env |= {"ATELIER_TORCH_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=env, stdout=subprocess.PIPE, text=True)
        direct = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DIRECT, str(SHIPPED_FOLDER / "atelier-shapes")],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            _compare(url, (Path(folder) / "key").read_text().strip(), direct)
        finally:
            for process in (server, direct):
                process.terminate()
                process.wait()


def _compare(url: str, key: str, direct: subprocess.Popen[str]) -> None:
    assert direct.stdin is not None
    assert direct.stdout is not None
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
        while http.get("/readyz").status_code != 200:
            time.sleep(0.1)
        assert direct.stdout.readline() == "ready\n"
        _over_http(http)
        pairs = []
        for _ in range(ROUNDS):
            direct.stdin.write("paint\n")
            direct.stdin.flush()
            pairs.append((float(direct.stdout.readline()), _over_http(http)))
    bare_s, http_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(over / bare for bare, over in pairs)
    print("\na picture of 30 steps over HTTP against a direct diffusers call (same checkpoint, settings, threads)")
    print(f"direct {bare_s * 1000:.0f} ms, over HTTP {http_s * 1000:.0f} ms, ratio {ratio:.3f}x")


def _over_http(http: httpx.Client) -> float:
    began = time.perf_counter()
    answer = http.post("/v1/workflows/run", json={"inputs": SETTINGS, "user": "bench"}).raise_for_status().json()
    took = time.perf_counter() - began
    assert answer["data"]["status"] == "succeeded", answer
    return took


if __name__ == "__main__":
    main()
