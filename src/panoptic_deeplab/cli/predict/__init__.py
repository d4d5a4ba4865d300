"""`panoptic-deeplab predict`: from files, folders, pages, tiles and videos to the files that people asked for.

Start at `command.py`; `files.py` has a row for each form of `--save`. The forms themselves are in `results/`.
"""
