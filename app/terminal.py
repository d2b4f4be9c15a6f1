"""Where commands print."""

from __future__ import annotations

import sys

from rich.console import Console

# Piped output is read by programs: no line is cut to a terminal that is not there.
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 250)
