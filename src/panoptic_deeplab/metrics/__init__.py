"""PQ, mIoU and AP of anybody's predictions: they know results and truth only. A new one is a `metric.Metric`.

The loop over a set, tables and files are in `evaluation/`, whose `evaluate` takes further metrics.
"""
