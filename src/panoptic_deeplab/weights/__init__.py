"""From a name or folder to a trained network: model folders, the zoo, the hub, converters of published checkpoints.

The layers are in `model/`, which knows nothing of files.
"""
