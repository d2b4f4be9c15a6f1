"""LoRAs: files → changed weights, put on and taken off by pointer.

files         kohya's, PEFT's and LyCORIS' files (low_rank: how one weight changes)
wardrobe      changed weights in the place of a module's own · dressing: one checkpoint with what it wears
"""
