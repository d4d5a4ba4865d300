"""How fast and how large: prediction by stages and end to end, loading and training steps.

scenes.py      drawn scenes, as untrained networks see nothing
measure.py     repeated timing, peak memory
inference.py   a predictor: decode ─▶ resize ─▶ network ─▶ post-processing ─▶ encode
training.py    a recipe: images a second of the loader, steps a second
paper.py       the rows of Table 9
report.py      table, JSON, the machine
"""
