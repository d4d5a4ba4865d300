"""What everybody else sees: a panoptic result, its segments, ids and run lengths, and the formats people use.

Nothing here draws or measures quality.
"""
