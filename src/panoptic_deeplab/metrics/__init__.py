"""PQ, mIoU and AP of anybody's predictions: they know results and truth only. A new one is a `metric.Metric`.

Those that every evaluation counts are listed in `standard.py`; `evaluate` of `evaluation/`, where the loop over a set,
tables and files are, takes further ones.
"""
