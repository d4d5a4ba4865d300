"""Large collections of images: where they come from, results that survive a kill at any moment, and the loop between.

The loop is on one machine (`run.py`) or on all that Ray has (`on_ray.py`, `evaluate_on_ray.py`); it schedules nothing.

How one image becomes a result is in `inference/`, and what a result looks like is in `results/`; neither is here.
"""
