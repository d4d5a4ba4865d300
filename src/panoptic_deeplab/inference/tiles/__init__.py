"""Images larger than memory: the network's maps of tiles, blended into those of the image before post-processing.

Parts of files are read by `images/regions.py`, maps become segments in `postprocess/large_maps.py`; neither is here.
"""
