"""The loop and what surrounds it: losses, optimizer, averages of weights, checkpoints, tracking.

Reading data sets is in `data/`, measuring in `evaluation/`.
"""
