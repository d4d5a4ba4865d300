"""PQ, mIoU and AP of anybody's predictions: they know results and truth only.

The loop over a set, tables and files are in `evaluation/`.
"""
