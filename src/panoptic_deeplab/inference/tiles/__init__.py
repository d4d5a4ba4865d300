"""Images larger than memory: windows of the network's maps, blended into maps of the whole image before post-processing.

Regions of files are read by `images/regions.py`, and the maps become segments in `postprocess/bands.py`; neither is here.
"""
