"""The pipeline as one graph of tensors, images in, segments out, that PyTorch can trace: `whole.py`, and its stages.

What a graph is written as is up to `writers.py`.
"""
