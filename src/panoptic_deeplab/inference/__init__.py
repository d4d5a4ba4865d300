"""The one inference path: an image in any form -> `PanopticResult`.

Post-processing itself is in `postprocess/`; commands and pictures are elsewhere.
"""
