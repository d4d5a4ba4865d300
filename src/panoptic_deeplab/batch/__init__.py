"""Large collections of images: where they come from, results that survive a kill at any moment, and the loop between.

How one image becomes a result is in `inference/`, and what a result looks like is in `results/`; neither is here.
"""
