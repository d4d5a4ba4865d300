"""Encoders: image -> features at strides 4, 8 and deeper."""
