"""From an image in any form to a `PanopticResult`: `PanopticPredictor`, and the engines that it runs.

Post-processing itself is in `postprocess/`; commands and pictures are elsewhere.
"""
