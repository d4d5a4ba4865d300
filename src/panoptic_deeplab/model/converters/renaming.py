"""From the names of one implementation to those of another, with every entry accounted for."""

from collections.abc import Callable, Mapping

from torch import Tensor

from panoptic_deeplab.errors import CheckpointError

COUNTER = "num_batches_tracked"
"""Of batch normalisation. Older files lack it, and nothing reads it."""


def rename(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], their_name: Callable[[str], str], *, where: str
) -> dict[str, Tensor]:
    """Take from `state` what our model needs; all of it, and nothing may be left.

    Args:
        state: by their names.
        own: state of our model; the values are those of entries that may be missing (`COUNTER`).
        their_name: the name of one of our modules (`semantic_aspp.project.0`) -> their name of it.
        where: name of the file, for the message.

    Returns:
        Tensors by our names.

    Raises:
        CheckpointError: lists each entry, by their names, that is missing, unexpected or of another shape.
    """
    theirs_of = {name: _entry(name, their_name) for name in own}
    assert len(set(theirs_of.values())) == len(theirs_of), "two of our entries have one name there"
    missing = [theirs for theirs in theirs_of.values() if theirs not in state and not theirs.endswith(COUNTER)]
    expected = set(theirs_of.values())
    unexpected = [theirs for theirs in state if theirs not in expected]
    misfits = [
        f"{theirs} {tuple(state[theirs].shape)} instead of {tuple(own[name].shape)}"
        for name, theirs in theirs_of.items()
        if theirs in state and state[theirs].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what}:\n    " + "\n    ".join(names)
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misfits))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{where} does not fit the model that it was said to hold. Of its entries are\n  "
            + "\n  ".join(problems)
            + "\n  Name the model that the file does hold."
        )
    return {name: state.get(theirs, own[name]) for name, theirs in theirs_of.items()}


def _entry(name: str, their_name: Callable[[str], str]) -> str:
    module, _, entry = name.rpartition(".")
    return f"{their_name(module)}.{entry}"
