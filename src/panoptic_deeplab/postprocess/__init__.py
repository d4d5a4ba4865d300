"""From `RawMaps` to `PanopticResult`: centres, grouping, majority vote (sections 3.2 and 3.3)."""
