"""How much memory the activations of one training pass take: `python benchmarks/training_memory.py RECIPE...`

    recipe                          crop     images  activations  an image  weights and optimizer
    cityscapes_xception71    1025 x 2049          2    15.3 GiB   7.7 GiB                0.7 GiB

Counted on the meta device, without a GPU: the bytes of all tensors that autograd keeps for the backward pass of the
network, in the recipe's precision. What comes on top on a GPU is not counted: upsampled maps and their losses (an image
at a time), workspaces of convolutions, and what the allocator cannot use. Leave a quarter of the memory for it.
"""

import argparse

import torch

from panoptic_deeplab.categories import CategoryTable
from panoptic_deeplab.config import Config
from panoptic_deeplab.config.io import load_config
from panoptic_deeplab.model.network import PanopticDeepLab

_GIB = 2**30
_BYTES_A_PARAMETER = 16
"""Weight, gradient and two moments of Adam in float32."""


def activation_bytes(config: Config, images: int, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes that autograd keeps, and parameters of the network.

    Args:
        config: network, table and crop.
        images: that go through the network together.
        dtype: type of the activations.
    """
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device("meta"):
        num_classes = CategoryTable.load(config.data.categories).num_classes
        model = PanopticDeepLab(config.model, num_classes).train().to(dtype)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            maps = model(torch.zeros(images, 3, *config.data.crop_size, dtype=dtype))
    assert maps.semantic_logits.requires_grad  # and alive, so that no two storages had one address
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    activations = sum(size for address, size in kept.items() if address not in own)
    return activations, sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Print a row a recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="+", help="names of packaged recipes, or YAML files")
    parser.add_argument("--images", type=int, help="in one pass; default: those of a step on one GPU")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), help="default: the recipe's")
    arguments = parser.parse_args()
    print(f"{'recipe':40}{'crop':>12}{'images':>8}{'activations':>13}{'an image':>10}{'weights and optimizer':>23}")
    for recipe in arguments.recipes:
        config = load_config(recipe)
        images = arguments.images or config.train.images_at_once or config.train.batch_size
        precision = arguments.precision or config.train.precision.replace("auto", "bfloat16")  # on a GPU
        dtype = getattr(torch, precision)
        activations, parameters = activation_bytes(config, images, dtype)
        height, width = config.data.crop_size
        print(
            f"{recipe:40}{f'{height} x {width}':>12}{images:8}{activations / _GIB:9.1f} GiB"
            f"{activations / images / _GIB:6.1f} GiB{parameters * _BYTES_A_PARAMETER / _GIB:19.1f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
