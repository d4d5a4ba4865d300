"""What everybody else sees: a panoptic result, its segments, ids and run lengths, and the forms people use.

A new form is a function of `conversions.py`; `cli/predict/files.py` makes it a value of `--save`, `serving/options.py`
an output of the service. Nothing here draws or measures quality.
"""
