"""How fast and how large: networks, prediction by stages and end to end, loading and training steps.

scenes.py      drawn scenes, as untrained networks see nothing
measure.py     repeated timing, peak memory
inference.py   a predictor: decode ─▶ resize ─▶ network ─▶ post-processing ─▶ encode
training.py    a recipe: images a second of the loader, steps a second
counting.py    parameters and multiply-adds, as the paper counts
paper.py       the networks whose size the paper prints (Tables 1, 5 and 9)
paper_speed.py the rows of Table 9, timed here
report.py      table, JSON, the machine
"""
