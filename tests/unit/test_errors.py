import sys

import pytest

from panoptic_deeplab import errors
from panoptic_deeplab.errors import MissingDependencyError, PanopticDeepLabError, did_you_mean, require


def test_close_name_is_suggested() -> None:
    assert did_you_mean("batchsize", ["batch_size", "seed"]) == "Did you mean `batch_size`?"


def test_far_name_lists_the_choices_sorted() -> None:
    assert did_you_mean("zzz", ["seed", "batch_size"]) == "Choose from: batch_size, seed."


def test_of_many_choices_the_closest_are_named_and_where_all_are() -> None:
    names = [f"cityscapes_{kind}" for kind in ("resnet50", "resnet101", "hrnet", "xception71")] + ["demo"]
    assert did_you_mean("cityscapes_resnet", names, see_all="train --help") == (
        "Did you mean `cityscapes_resnet50`, `cityscapes_resnet101` or `cityscapes_hrnet`? See all with: train --help"
    )
    assert did_you_mean("demoo", names, see_all="train --help") == "Did you mean `demo`? See all with: train --help"
    assert did_you_mean("zzz", names, see_all="train --help") == "See all with: train --help"


def test_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        require("no_such_package.module", extra="train", purpose="drawing curves")
    assert str(caught.value) == (
        'drawing curves needs the package no_such_package. Install it with: pip install "panoptic-deeplab[train]"'
    )


def test_the_package_that_is_missing_is_named_not_the_one_that_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match="needs the package tensorboard"):
        require("torch.utils.tensorboard", extra="train", purpose="logging to TensorBoard")


def test_present_package_is_returned() -> None:
    assert require("json", extra="train", purpose="reading").loads("1") == 1


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigError", ValueError),
        ("DatasetError", ValueError),
        ("ImageError", ValueError),
        ("CheckpointError", ValueError),
        ("TrainingError", RuntimeError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_errors_are_ours_and_of_the_builtin_kind(name: str, builtin: type[Exception]) -> None:
    error = getattr(errors, name)
    assert issubclass(error, PanopticDeepLabError)
    assert issubclass(error, builtin)
