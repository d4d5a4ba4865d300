"""From a name or folder to a trained network: model folders, the zoo, the hub, converters of published checkpoints.

The layers are in `model/`; its `PanopticDeepLab.from_pretrained` is an alias of `open_pretrained`.
"""
