"""From `RawMaps` to `PanopticResult`: centers, grouping, majority vote (sections 3.2 and 3.3). Start at `pipeline.py`.

`dropped.py` says what a result leaves out, such as stuff below `stuff_area_limit`. No network, no files, no drawing.
`shortcut/` holds what only makes it fast on a CPU; the method does not need it.
"""
