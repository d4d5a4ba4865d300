"""Images larger than memory: the network's maps of tiles, blended into those of the image before post-processing.

Parts of files are read by `images/regions.py`, and the maps become segments in `postprocess/bands.py`; neither is here.
"""
