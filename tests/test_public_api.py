import ast
import subprocess
import sys
from pathlib import Path

import pytest

import panoptic_deeplab


def test_all_is_sorted_and_complete() -> None:
    assert panoptic_deeplab.__all__ == sorted(panoptic_deeplab.__all__)
    tree = ast.parse(Path(panoptic_deeplab.__file__).read_text("utf-8"))
    for_type_checkers = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("panoptic_deeplab.")
        for alias in node.names
    }
    assert for_type_checkers == {n: f"panoptic_deeplab.{module}" for n, module in panoptic_deeplab._MODULE_OF.items()}


@pytest.mark.parametrize("name", panoptic_deeplab.__all__)
def test_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(panoptic_deeplab, name)
    assert value.__name__ == name
    assert value.__doc__


def test_dir_lists_the_public_names() -> None:
    assert set(panoptic_deeplab.__all__) < set(dir(panoptic_deeplab))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PanopticDeeplab'"):
        _ = panoptic_deeplab.PanopticDeeplab  # type: ignore[attr-defined]


def test_import_is_light() -> None:
    code = (
        "import sys, panoptic_deeplab\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'matplotlib', 'cv2', 'pycocotools'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from panoptic_deeplab import CategoryTable, load_config, PanopticResult\n"
        "heavy = {'torch', 'torchvision', 'timm', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
