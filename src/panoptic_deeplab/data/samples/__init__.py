"""A few real images with their truth, for a first look, the demo and the tests; no set to train a model on.

Each folder is a set in the format `folder`, with the source of its images in `NOTICE`.
"""

from pathlib import Path

NUCLEI = Path(__file__).parent / "nuclei"
"""Nuclei under microscopes of several kinds: splits `dev` (12 images) and `train` (14); categories `nuclei`."""
