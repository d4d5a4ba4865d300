"""Any source of an image to RGB, and RGB to what the network takes.

Labels are read by `data/`.
"""
