"""What readers of several formats share: lists of samples, drawn shapes, COCO's JSON, run lengths, label colors.

A file here belongs to no format; one that does is in `formats/` itself.
"""
