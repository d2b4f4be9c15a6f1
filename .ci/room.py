"""Says so in one sentence when the disk has no room for the virtual environment (about 1.6 GB with a CPU build)."""

import shutil
import sys

NEEDED_GB = 2.5

free_gb = shutil.disk_usage(".").free / 1e9
if free_gb < NEEDED_GB:
    sys.exit(f"The disk is too full: Atelier's installation needs {NEEDED_GB} GB here, {free_gb:.1f} GB are free.")
