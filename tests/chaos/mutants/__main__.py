"""Runs each mutant against the test that has to notice it; exit 1 when one of them was not noticed."""

from __future__ import annotations

import os
import subprocess
import sys

NOTICED_BY = {
    "reaper_off": "test_a_worker_dies_in_the_middle_and_another_begins_within_a_second",
    "fence_off": "test_a_late_outcome_is_refused_while_the_run_goes_on",
    "early_bell": "test_an_idle_worker_hears_at_once",
}


def main() -> None:
    unnoticed = [mutant for mutant, test in NOTICED_BY.items() if not _is_noticed(mutant, test)]
    sys.exit(f"not noticed: {', '.join(unnoticed)}" if unnoticed else 0)


def _is_noticed(mutant: str, test: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "tests/chaos/test_matrix.py", "-k", test]
    done = subprocess.run(command, env={**os.environ, "CHAOS_MUTANT": mutant}, capture_output=True, text=True)
    noticed = done.returncode == 1  # 1: tests failed; anything else is trouble of another kind
    print(f"{mutant}: {'noticed by ' + test if noticed else f'exit status {done.returncode}: {done.stdout[-2000:]}'}")
    return noticed


if __name__ == "__main__":
    main()
