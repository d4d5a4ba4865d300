"""The network: images -> `RawMaps`. Layers, decoders, heads and backbones.

What has to do with names, files, downloads, classes or losses does not belong here.
"""
