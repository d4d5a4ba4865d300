"""Encoders: an image -> features at strides 4, 8 and deeper; `build.py` makes the one that a configuration names.

A new one is a file here and a line in `build.OWN_NETWORKS`; networks of timm need neither. ASPP, decoders and heads are
in the folder above.
"""
