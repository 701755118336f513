"""From lower bounds to the exact neighbours: branch and bound over the segments of candidates."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from octoscale.loss.keys import NONE, exact_keys, keep_least, key_distance, keys_of
from octoscale.loss.rows import Rows, blocks, rows_at_once
from octoscale.loss.screening import Bound, Minima

# One rounding of a key's distance to fp32, on either side of a comparison.
_KEY_SLACK = 1 + 2.0**-22
_ROWS_AT_ONCE = 32768
_TASKS_PER_GROUP = 32


@dataclass(frozen=True)
class _Tasks:
    """Segments to search: `segments[t]` for anchor `anchors[t]`, ascending by segment; int64 [t] each.

    `worst[t]`: squared distance (scaled) that a candidate must not exceed to matter.
    """

    anchors: Tensor
    segments: Tensor
    worst: Tensor


@torch.no_grad()
def refine(keys: Tensor, anchors: Rows, candidates: Rows, minima: Minima, *, floors: Tensor | None = None) -> None:
    """Keep in `keys` the nearest allowed candidates of each anchor, whatever the precision of `minima`.

    First the most promising segments are searched. That gives an upper bound, and every other segment
    whose lower bound does not exceed it is searched too: the result is exact by construction.

    Args:
        keys: int64 [n, count], ascending, NONE where there are not so many: what is known already; changed in place.
        anchors, candidates: [n, d] and [m, d].
        minima: of the anchors over the candidates.
        floors: fp32 [n], only candidates at a larger squared distance (scaled) are allowed.
    """
    bound = Bound.of(anchors, candidates, minima.segment)
    for block in blocks(len(anchors), _ROWS_AT_ONCE):
        lowest = bound.lowest(minima, block)
        found = keys[block]

        def worth(values: Tensor, found: Tensor = found) -> Tensor:
            worst = key_distance(found[:, -1]).to(values.dtype) * (_KEY_SLACK / 2)
            return (values <= worst[:, None]) & values.isfinite()

        promising = lowest.topk(min(keys.shape[1], lowest.shape[1]), largest=False)
        rows, places = worth(promising.values).nonzero(as_tuple=True)
        _search(found, rows, promising.indices[rows, places], block.start, anchors, candidates, minima.segment, floors)
        lowest.scatter_(1, promising.indices, torch.inf)
        rows, segments = worth(lowest).nonzero(as_tuple=True)
        _search(found, rows, segments, block.start, anchors, candidates, minima.segment, floors)


def _search(
    keys: Tensor,
    rows: Tensor,
    segments: Tensor,
    first: int,
    anchors: Rows,
    candidates: Rows,
    segment: int,
    floors: Tensor | None,
) -> None:
    """Search segment `segments[t]` for anchor `first + rows[t]`; keep the least in row `rows[t]` of `keys`."""
    if not len(rows):
        return
    order = segments.argsort(stable=True)
    rows, segments = rows[order], segments[order]
    tasks = _Tasks(rows + first, segments, key_distance(keys[rows, -1]) * _KEY_SLACK)
    chosen, alive, unsure = _shortlist(tasks, anchors, candidates, segment, keys.shape[1], floors)
    found = torch.full((len(rows), keys.shape[1]), NONE, device=keys.device)
    clear = (alive & ~unsure).nonzero()[:, 0]
    found[clear] = exact_keys(anchors, candidates, tasks.anchors[clear], chosen[clear])
    for part in (alive & unsure).nonzero()[:, 0].split(rows_at_once(keys.device, 8 * segment * anchors.dim)):
        found[part] = _exhaust(tasks, part, anchors, candidates, segment, keys.shape[1], floors)
    keep_least(keys, rows, found)


def _shortlist(
    tasks: _Tasks, anchors: Rows, candidates: Rows, segment: int, count: int, floors: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest candidates of each task by products in the embeddings' own precision.

    Returns:
        int64 [t, count], rows of `candidates`, −1 where there are not so many; bool [t], whether the task
        can hold a nearer candidate than `worst`; bool [t], whether rounding may have chosen others.
    """
    device = anchors.source.device
    slots, group_segments = _groups(tasks.segments, -(-len(candidates) // segment))
    chosen = torch.empty((len(tasks.anchors), count), dtype=torch.int64, device=device)
    alive, unsure = (torch.empty(len(tasks.anchors), dtype=torch.bool, device=device) for _ in range(2))
    floats = (_TASKS_PER_GROUP + segment) * anchors.dim + 3 * _TASKS_PER_GROUP * segment
    for part in blocks(len(slots), rows_at_once(device, anchors.source.element_size() * floats)):
        # [groups, tasks], [groups, segment]
        task = slots[part]
        anchor = tasks.anchors[task]
        columns, inside = _members(group_segments[part], segment, candidates)
        a_squares, c_squares = anchors.squares[anchor][:, :, None], candidates.squares[columns][:, None, :]
        products = torch.bmm(anchors.centred_at(anchor), candidates.centred_at(columns).transpose(1, 2))
        squared = products.mul_(-2).add_(a_squares).add_(c_squares)
        slack = anchors.product_error * (a_squares + c_squares.amax(2, keepdim=True))
        forbidden = (anchors.labels[anchor][:, :, None] == candidates.labels[columns][:, None, :]) | ~inside[:, None, :]
        if floors is not None:
            forbidden |= squared + slack <= floors[anchor][:, :, None]
        squared.masked_fill_(forbidden, torch.inf)
        # One more than wanted, to see how far it is.
        values, places = _least(squared, count + 1)
        places = places[:, :, :count]
        # Infinity − infinity is no doubt: there is nothing to confuse.
        doubt = values[:, :, count] - values[:, :, count - 1] <= 2 * slack[:, :, 0]
        if floors is not None:
            doubt |= (values[:, :, :count] - slack <= floors[anchor][:, :, None]).any(2)
        rows = torch.take_along_dim(columns[:, None, :], places, dim=2)
        chosen[task.flatten()] = rows.masked_fill(values[:, :, :count].isinf(), -1).flatten(0, 1)
        alive[task.flatten()] = (values[:, :, 0] - slack[:, :, 0] <= tasks.worst[task]).flatten()
        unsure[task.flatten()] = doubt.flatten()
    return chosen, alive, unsure


def _exhaust(
    tasks: _Tasks, part: Tensor, anchors: Rows, candidates: Rows, segment: int, count: int, floors: Tensor | None
) -> Tensor:
    """Keys of the nearest candidates of the tasks `part`, from exact distances to the whole segment: [t, count]."""
    anchor = tasks.anchors[part]
    columns, inside = _members(tasks.segments[part], segment, candidates)
    difference = candidates.source[columns].double() - anchors.source[anchor].double()[:, None, :]
    squared = difference.mul_(anchors.scale).square_().sum(2).float()
    allowed = inside & (anchors.labels[anchor][:, None] != candidates.labels[columns])
    if floors is not None:
        allowed &= squared > floors[anchor][:, None]
    keys = keys_of(squared.masked_fill(~allowed, torch.inf), candidates.ids[columns])
    least = keys.topk(min(count, segment), largest=False).values
    return F.pad(least, (0, count - least.shape[1]), value=NONE)


def _members(segments: Tensor, segment: int, candidates: Rows) -> tuple[Tensor, Tensor]:
    """The rows of each of `segments` [n], and which of them exist: int64 [n, segment], bool [n, segment]."""
    columns = segments[:, None] * segment + torch.arange(segment, device=segments.device)
    return columns.clamp(max=len(candidates) - 1), columns < len(candidates)


def _least(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` least of the last axis, ascending, infinite where there are not so many; and their places.

    The place of the last one is not wanted by anyone: with two, which is nearly always, that saves a sort.
    """
    if count == 2:
        least, places = values.min(dim=2, keepdim=True)
        second = values.scatter(2, places, torch.inf).amin(2, keepdim=True)
        return torch.cat([least, second], dim=2), places
    found, places = values.topk(min(count, values.shape[2]), dim=2, largest=False)
    missing = count - found.shape[2]
    return F.pad(found, (0, missing), value=torch.inf), F.pad(places, (0, missing))


def _groups(segments: Tensor, segment_count: int) -> tuple[Tensor, Tensor]:
    """Tasks in groups of one segment each, from `segments` [tasks] ascending: int64 [groups, size], [groups].

    The last task of a group repeats where the group is not full.
    """
    device = segments.device
    tasks = torch.bincount(segments, minlength=segment_count)
    groups = -(-tasks // _TASKS_PER_GROUP)
    group_segments = torch.repeat_interleave(torch.arange(segment_count, device=device), groups)
    first_group, first_task = groups.cumsum(0) - groups, tasks.cumsum(0) - tasks
    place = torch.arange(len(group_segments), device=device) - first_group[group_segments]
    start = first_task[group_segments] + place * _TASKS_PER_GROUP
    last = (first_task + tasks - 1)[group_segments]
    slots = start[:, None] + torch.arange(_TASKS_PER_GROUP, device=device)
    return torch.minimum(slots, last[:, None]), group_segments
