"""The loop and what surrounds it: losses, optimizer, averages of weights, checkpoints, tracking. Start at `trainer.py`.

A `callbacks.Callback` hears of what happens; those of `loggers/` write it elsewhere. Reading data sets is in `data/`,
measuring in `evaluation/`.
"""
