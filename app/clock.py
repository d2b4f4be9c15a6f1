"""The time of this process, one of the two sources of chance (the other is `ids`).

For display and for measuring here. Leases and deadlines are compared by the database's clock alone.
"""

from time import monotonic, time

__all__ = ["monotonic", "time"]
