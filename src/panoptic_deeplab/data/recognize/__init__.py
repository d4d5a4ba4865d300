"""What a folder of labels holds, for `data init`: its format, splits and classes, and which of these are things.

A format that `data init` shall know needs a row of `detect.LOOKS` and its function: in `detect.py`, in
`detect_tools.py` if a label tool writes it, or in `detect_masks.py` if its labels are pictures. Reading the labels is
up to `formats/`.
"""
