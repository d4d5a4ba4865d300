"""AOTInductor: a program of torch.export as machine code of this kind of processor, for programs without Python.

A compiled file *is* code: loading one runs whatever its author put into it. So `--model` never takes it, and
`load_compiled` is a function of its own, for files that you compiled yourself.
"""

import warnings
import zipfile
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from panoptic_deeplab.errors import CheckpointError, ExportError, first_line
from panoptic_deeplab.inference.engines.fast_network import check_compiler
from panoptic_deeplab.inference.exported.model_file import INFO_KEY, ModelFileInfo, read_model_file_info
from panoptic_deeplab.inference.exported.runtimes import ExportedNetwork, ExportedPipeline


def save_compiled(program: ExportedProgram, path: Path, info: ModelFileInfo) -> None:
    """Compile what `trace` gave for images of one size, and write it to a `.pt2` file in place, with its description.

    Raises:
        ConfigError: there is no C++ compiler.
        ExportError: the program takes images of any size, or cannot be compiled.
    """
    if info.input_size is None:
        raise ExportError(
            "Compiled code is for images of one size. Name it: --size HEIGHT WIDTH; or leave out --compile."
        )
    check_compiler()
    import torch._inductor

    written = path.with_suffix(".pt2")  # torch insists on small letters
    try:
        with warnings.catch_warnings(action="ignore"):
            torch._inductor.aoti_compile_and_package(program, package_path=str(written))
    except Exception as error:  # torch raises many kinds, and the compiler's messages
        raise ExportError(
            f"The program cannot be compiled ({type(error).__name__}: {first_line(error)}). Leave out --compile."
        ) from error
    with zipfile.ZipFile(written, "a") as archive:
        top = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{top}/extra/{INFO_KEY}", info.to_json())
    written.replace(path)


def load_compiled(path: str | Path) -> ExportedNetwork | ExportedPipeline:
    """Load a compiled file, which runs code from it: only for files that you trust as you trust a program.

    The result goes into `inference.engines.open.engine_of`.

    Raises:
        CheckpointError: the file is missing or damaged, or was compiled for another machine or version of torch.
    """
    import torch._inductor

    path = Path(path)
    info = read_model_file_info(path)
    try:
        compiled = torch._inductor.aoti_load_package(str(path))
    except Exception as error:  # torch raises many kinds
        raise CheckpointError(
            f"{path} cannot be loaded ({type(error).__name__}: {first_line(error)}). It runs only with the version of"
            " torch and the kind of processor for which it was compiled."
        ) from error

    def run(images: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            return list(compiled(images))

    return ExportedNetwork(path, info, run) if info.kind == "network" else ExportedPipeline(path, info, run)
