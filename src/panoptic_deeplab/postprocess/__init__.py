"""From `RawMaps` to `PanopticResult`: centers, grouping, majority vote (sections 3.2 and 3.3). Start at `pipeline.py`.

`dropped.py` says what a result leaves out, such as stuff below `stuff_area_limit` (`predict --explain`).
`large_maps.py` is the method over maps that are larger than memory; `shortcut/` holds what only makes it fast on a CPU,
which the method does not need. No network, no files, no drawing.
"""
