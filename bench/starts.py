"""What a start costs: seconds until `/livez` answers, and whether anything heavy was imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import httpx

ROUNDS = 5


def main() -> None:
    print("\nstart of the API process until /livez answers (bare: a Python process that imports starlette and uvicorn)")
    with tempfile.TemporaryDirectory() as folder:
        first = _start(folder)
        later = sorted(_start(folder) for _ in range(ROUNDS))[ROUNDS // 2]
    bare = sorted(_bare() for _ in range(ROUNDS))[ROUNDS // 2]
    print(f"first start (makes the database) {first:.2f} s, later ones {later:.2f} s, bare {bare:.2f} s")
    program = "import sys, app.main; print([m for m in ('torch', 'celery', 'diffusers') if m in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    print(f"heavy modules that `import app.main` loads: {heavy}")


def _start(folder: str) -> float:
    env = os.environ | {"ATELIER_DATA_DIR": folder, "ATELIER_PORT": "0", "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        while True:
            try:
                httpx.get(f"{url}/livez", timeout=1).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.005)
            else:
                return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()


def _bare() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import starlette.applications, uvicorn"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
