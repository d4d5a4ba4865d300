"""One file that runs anywhere: the network, or the whole pipeline, for other runtimes.

Such files are read and run by `inference/exported/`.
"""
