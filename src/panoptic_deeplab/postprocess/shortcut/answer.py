"""The short cut through the method: the answer of `pipeline.panoptic_tensors` on a CPU, many times sooner.

    cells.py          pixels sorted by the four samples of the stride-4 maps around them
    peaks.py          centers from a short list of pixels
    corners.py        whole cells of 4 x 4 pixels whose class and instance follow from their corners: most of an image
    undecided.py      the rest, pixel by pixel; with candidates.py, the nearest center of a few
    probability.py    the softmax inside of whole cells, with few exponentials
    bands.py          rows of a map on all cores

Nothing is resized as a whole. The maps, areas and boxes are the method's to the last bit; a probability is added up in
another way, so a score may differ in the last digits of float32.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from panoptic_deeplab.config import PostprocessConfig
from panoptic_deeplab.maps import Size
from panoptic_deeplab.postprocess.borders import list_borders, slots_of_listed_wholes
from panoptic_deeplab.postprocess.centers import Centers, find_centers, no_centers
from panoptic_deeplab.postprocess.merging import PanopticTensors, Rectangles, SlotSums, decide_segments, score_segments
from panoptic_deeplab.postprocess.pixels import ImageMaps, look_up, make_grid, resize
from panoptic_deeplab.postprocess.shortcut.cells import CellGrid, expand, is_pixel, make_cells, pixel_rows_and_columns
from panoptic_deeplab.postprocess.shortcut.corners import decided_runs, label_cells, undecided_cells
from panoptic_deeplab.postprocess.shortcut.peaks import centers_of_list
from panoptic_deeplab.postprocess.shortcut.probability import probability_in_cells
from panoptic_deeplab.postprocess.shortcut.undecided import label_pixels, probability_of
from panoptic_deeplab.stopwatch import Stopwatch, stage


def quick_answer(
    maps: ImageMaps,
    input_size: Size,
    content_size: Size,
    *,
    thing_mask: Bool[Tensor, " C"],
    config: PostprocessConfig,
    align_corners: bool,
    stopwatch: Stopwatch | None = None,
) -> PanopticTensors | None:
    """Give the answer for one image without a look at most of its pixels; arguments as for `panoptic_tensors`.

    None off the CPU, where the host would have to wait to learn which pixels are left.
    """
    logits, _, offset = maps
    if logits.device.type != "cpu":
        return None
    sizes = (logits.shape[1], logits.shape[2]), input_size, content_size
    cells = make_cells(*sizes, align_corners=align_corners)
    with stage(stopwatch, "centers"):
        centers = _centers(maps, cells, sizes, config, align_corners=align_corners)

    whole = label_cells(logits, offset, cells, centers, thing_mask=thing_mask, stopwatch=stopwatch)
    left = undecided_cells(whole)
    single = label_pixels(logits, offset, cells, left, centers, thing_mask=thing_mask, stopwatch=stopwatch)

    with stage(stopwatch, "merging"):
        sums = SlotSums(len(centers.valid), thing_mask)
        sums.add_rectangles(*decided_runs(whole, cells))
        y, x = pixel_rows_and_columns(cells, left)
        is_counted = is_pixel(cells, left)
        sums.add_rectangles(single.slots, single.classes.train_ids, is_counted.long(), Rectangles(y, y, x, x))
        place = (y * content_size[1] + x).flatten()  # a place of a cell that is no pixel repeats one
        if config.join_border_fraction is not None:
            pixel_slots = expand(whole.slots, cells)
            pixel_slots.view(-1).scatter_(0, place, single.slots.flatten())
            borders = list_borders(pixel_slots.numpy(), len(centers.valid))
            into = slots_of_listed_wholes(borders, sums.vote(), len(sums.votes), fraction=config.join_border_fraction)
            sums.join(into)
            whole = whole._replace(slots=look_up(into.to(torch.int32), whole.slots))
            single = single._replace(slots=look_up(into.to(torch.int32), single.slots))
        table = decide_segments(
            sums, stuff_area_limit=config.stuff_area_limit, instance_area_limit=config.instance_area_limit
        )

        panoptic_map = expand(look_up(table.segment_ids, whole.slots), cells)
        semantic_map = expand(whole.train_ids, cells)
        panoptic_map.view(-1).scatter_(0, place, look_up(table.segment_ids, single.slots).flatten())
        semantic_map.view(-1).scatter_(0, place, single.classes.train_ids.flatten())

    with stage(stopwatch, "scores"):
        probability = probability_in_cells(look_up(table.train_ids, whole.slots), whole, logits, cells)
        sums.add_probability(whole.slots, probability)
        probability = probability_of(look_up(table.train_ids, single.slots), single.classes, logits, cells, left)
        sums.add_probability(single.slots, probability * is_counted)
        scores = score_segments(sums, table, centers)
    return PanopticTensors(panoptic_map=panoptic_map, semantic_map=semantic_map, table=table, scores=scores)


def _centers(
    maps: ImageMaps, cells: CellGrid, sizes: tuple[Size, Size, Size], config: PostprocessConfig, *, align_corners: bool
) -> Centers:
    if maps.heatmap is None:
        return no_centers(maps.logits.device)
    centers = centers_of_list(maps.heatmap, cells, config)
    if centers is None:
        grid = make_grid(*sizes, align_corners=align_corners, device=maps.logits.device)
        centers = find_centers(resize(maps.heatmap[None], grid)[0], config)
    return centers
