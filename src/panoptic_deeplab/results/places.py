"""Map and table of segments held against each other: which place of the list each pixel belongs to."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer

from panoptic_deeplab.errors import DatasetError
from panoptic_deeplab.results.ids import MAX_SEGMENT_ID, VOID_ID
from panoptic_deeplab.results.run_lengths import Runs, find_runs


def segment_index(
    panoptic_map: Integer[np.ndarray, "H W"], segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, "H W"]:
    """Place of each pixel's segment in a list: 0 = void, n = `segment_ids[n - 1]`.

    Args:
        panoptic_map: segment ids.
        segment_ids: non-zero, in any order; ids without a pixel may be listed.
        where: file or image, for the message.

    Raises:
        DatasetError: the map has an id that is not listed, or an id is listed twice or out of range.
    """
    runs = find_runs(panoptic_map)
    return runs.spread(segment_places(panoptic_map, runs, segment_ids, where=where))


def segment_places(
    panoptic_map: Integer[np.ndarray, "H W"], runs: Runs, segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, " R"]:
    """Place of each run's segment in a list: 0 = void, n = `segment_ids[n - 1]`.

    Args:
        panoptic_map: segment ids.
        runs: stretches in which the map is constant.
        segment_ids: non-zero, in any order; ids without a pixel may be listed.
        where: file or image, for the message.

    Raises:
        DatasetError: as for `segment_index`.
    """
    try:
        ids = np.array(segment_ids, np.int64)
    except OverflowError as error:
        raise DatasetError(
            f"{where}: segments_info lists an id of more than 64 bits. Expected 1 to {MAX_SEGMENT_ID}."
        ) from error
    unique_ids, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{where}: segments_info lists id {unique_ids[counts > 1][0]} more than once.")
    values = runs.of(panoptic_map)
    smallest, largest = int(values.min(initial=VOID_ID)), int(values.max(initial=VOID_ID))
    if smallest < 0 or largest > MAX_SEGMENT_ID:
        raise DatasetError(
            f"{where} has segment ids from {smallest} to {largest}. Expected 0 (void) to {MAX_SEGMENT_ID};"
            " renumber the segments."
        )
    impossible = unique_ids[(unique_ids <= VOID_ID) | (unique_ids > MAX_SEGMENT_ID)]
    if impossible.size:
        raise DatasetError(
            f"{where}: segments_info lists id {impossible[0]}. Expected 1 to {MAX_SEGMENT_ID}; {VOID_ID} means void."
        )
    # A table over all ids: zeroed memory is only touched where an id is looked up, so sparse 24-bit ids cost little.
    place_of_id = np.zeros(largest + 1, np.int64)
    visible = ids <= largest
    place_of_id[ids[visible]] = 1 + np.flatnonzero(visible)
    places: Int64[np.ndarray, " R"] = place_of_id[values]
    if np.count_nonzero(places) != np.count_nonzero(values):
        unknown = np.flatnonzero((places == 0) & (values != VOID_ID))[0]
        y, x = divmod(int(runs.starts[unknown]), runs.size[1])
        raise DatasetError(
            f"{where} has id {values[unknown]} at (y={y}, x={x}), but segments_info lists no such segment."
            " Expected every non-zero id of the map in segments_info (COCO panoptic format)."
        )
    return places


def check_consistency(
    panoptic_map: Integer[np.ndarray, "H W"], segment_ids: Sequence[int], *, where: str
) -> Int64[np.ndarray, " N"]:
    """Hold map and table against each other.

    Args:
        panoptic_map: segment ids.
        segment_ids: ids that the table lists.
        where: file or image, for the message.

    Returns:
        Number of pixels of each.

    Raises:
        DatasetError: an id is in one of the two only, twice in the table, or out of range.
    """
    runs = find_runs(panoptic_map)
    places = segment_places(panoptic_map, runs, segment_ids, where=where)
    areas: Int64[np.ndarray, " N"] = np.bincount(places, runs.lengths, minlength=len(segment_ids) + 1)[1:].astype(
        np.int64
    )
    check_present(segment_ids, areas, where=where)
    return areas


def check_present(segment_ids: Sequence[int], areas: Int64[np.ndarray, " N"], *, where: str) -> None:
    """Refuse a segment without pixels.

    Raises:
        DatasetError: an area is 0.
    """
    absent = np.flatnonzero(areas == 0)
    if absent.size:
        raise DatasetError(f"{where}: segments_info lists id {segment_ids[absent[0]]}, but no pixel of the map has it.")
