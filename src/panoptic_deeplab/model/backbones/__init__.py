"""Encoders: an image -> features at strides 4, 8 and deeper; `build.py` makes the one that a configuration names.

ASPP, decoders and heads are in the folder above.
"""
