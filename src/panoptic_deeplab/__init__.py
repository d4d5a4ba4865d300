"""Panoptic-DeepLab."""

__version__ = "0.1.0"
