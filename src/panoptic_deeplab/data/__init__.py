"""From files to batches: `source` (raw labels) -> `dataset` (transformed + targets) -> `loader` (batches).

The readers of formats are in `formats/`, `sources.py` lists them. Images for prediction are read by `images/`.
"""
