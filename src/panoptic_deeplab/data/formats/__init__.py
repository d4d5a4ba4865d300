"""One reader for each format of labeled sets; a new one is a file here and a line in `data/sources.py`.

What they have in common is in the folder above.
"""
