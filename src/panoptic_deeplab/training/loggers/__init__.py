"""Callbacks that write what happens in a training to TensorBoard, Weights & Biases or MLflow (`train.loggers`).

What a run writes by itself (metrics.csv, curves, reports) is in `tracking.py` and `run_folder.py`.
"""
