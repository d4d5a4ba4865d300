"""Predictions against truth over a set: the loop, tables, report files, submissions and official scripts.

The measures themselves are in `metrics/`.
"""
