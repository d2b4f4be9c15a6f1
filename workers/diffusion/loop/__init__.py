"""The engine's thread and whose turn it is.

engine_loop   takes requests in, gives every group its turns, hands finished pictures out
ticket        what the thread that asked and the engine's thread tell each other
patience      when a checkpoint that is not in memory may come in
turns         deficit round robin over groups, in seconds of the device
groups        the drawings that share a UNet call
curve         how many rows such a call should have (stopwatch: the device's own time)
"""
