"""From the names of one implementation to those of another, with every entry accounted for."""

from collections.abc import Callable, Mapping

from torch import Tensor

from panoptic_deeplab.weights.reading.tensors import check_entries


def rename(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], their_name: Callable[[str], str], *, where: str
) -> dict[str, Tensor]:
    """Take from `state` what our model needs, by our names; all of it, and nothing may be left.

    Args:
        state: the weights by their names.
        own: state of our model; the values are those of entries that may be missing (`tensors.COUNTER`).
        their_name: the name of one of our modules (`semantic_aspp.project.0`) -> their name of it.
        where: name of the file, for the message.

    Raises:
        CheckpointError: names entries, as they are called there, that are missing, unexpected or of another shape.
    """
    theirs_of = {name: _entry(name, their_name) for name in own}
    assert len(set(theirs_of.values())) == len(theirs_of), "two of our entries have one name there"
    expected = {theirs: own[name] for name, theirs in theirs_of.items()}
    check_entries(state, expected, where=where, advice="Name the model that the file does hold")
    return {name: state.get(theirs, own[name]) for name, theirs in theirs_of.items()}


def _entry(name: str, their_name: Callable[[str], str]) -> str:
    module, _, entry = name.rpartition(".")
    return f"{their_name(module)}.{entry}"
