"""Any source of an image to RGB (`read.py`), and RGB resized, normalized and padded for the network (`prepare.py`).

Labels are read by `data/`.
"""
