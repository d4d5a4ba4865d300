"""Any source of an image to RGB (`read.py`), and RGB resized, normalized and padded for the network (`prepare.py`).

Videos (`video.py`) and parts of images that are larger than memory (`regions.py`) are read here too, and pictures
written (`write.py`). Labels are read by `data/`.
"""
