"""The child that converts a checkpoint's file: it has two open files and may open no other.

`app.checkpoints.conversion` starts it. What it reads may be meant to do harm; nothing in it is run
(`app.checkpoints.pickles`), and should that ever fail, this process can do nothing with it.
"""
