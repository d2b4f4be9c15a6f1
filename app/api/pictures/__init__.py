"""What the dialects whose answer is a picture share. Field names of a dialect stay in its own `wire.py`."""
