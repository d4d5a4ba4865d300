"""One reader for each format of labeled sets.

What they have in common is in the folder above.
"""
