"""A worker that is still starting, however long one waits: as if it loaded something large. It hears nobody."""

import time

time.sleep(3600)
