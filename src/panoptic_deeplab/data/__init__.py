"""From files to batches: a source of raw labels (`sample.py`) -> `dataset.py` (transformed + targets) -> `loader.py`.

The readers of formats are in `formats/`, `sources.py` lists them; `recognize/` finds out which one a folder needs.
Images for prediction are read by `images/`.
"""
