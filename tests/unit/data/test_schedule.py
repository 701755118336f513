"""When each shard is needed, beside the loops that say the same slowly."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.schedule import NEVER, EpochUses, Timeline


def made_up(seed: int, *, shards: int, images: int) -> Any:
    """As much of an index as a schedule looks at."""
    rng = np.random.default_rng(seed)
    return _Index(
        shard_ids=rng.integers(0, shards, images).astype(np.int32),
        sizes=rng.integers(1, 100, images).astype(np.int32),
        manifest=SimpleNamespace(shards=[None] * shards),
    )


class _Index(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.sizes)


def plans(seed: int, images: int) -> list[np.ndarray]:
    """Two epochs of batches of two, no image twice in an epoch."""
    rng = np.random.default_rng([seed, 1])
    return [rng.permutation(images)[: images // 4 * 2].reshape(-1, 2) for _ in range(2)]


def uses(index: Any, epochs: list[np.ndarray], shard: int) -> list[tuple[int, int]]:
    """(time, row) of every use of the shard, in order."""
    times = [row for plan in epochs for row in plan.tolist()]
    return [(time, row) for time, batch in enumerate(times) for row in batch if index.shard_ids[row] == shard]


@given(seed=st.integers(0, 10_000), shards=st.integers(1, 6), images=st.integers(4, 40), data=st.data())
def test_uses_are_those_that_a_loop_finds(seed: int, shards: int, images: int, data: st.DataObject) -> None:
    index, epochs = made_up(seed, shards=shards, images=images), plans(seed, images)
    timeline = Timeline(shards)
    for plan in epochs:
        timeline.append(EpochUses(index, plan, timeline.end))
    times = st.integers(0, timeline.end + 2)
    first, last = sorted([data.draw(times), data.draw(times)])
    after = np.array([data.draw(times) for _ in range(shards)])

    next_uses = timeline.next_uses(after)
    needed = timeline.needed_bytes(first, last)

    for shard in range(shards):
        mine = uses(index, epochs, shard)
        assert next_uses[shard] == min((time for time, _ in mine if time >= after[shard]), default=NEVER)
        due = [row for time, row in mine if first <= time <= last]
        assert needed[shard] == sum(index.sizes[row] for row in due)
        assert timeline.rows_of(shard, first, last).tolist() == sorted(set(due))


def test_an_epoch_ends_with_its_last_batch_and_is_forgotten_after_it() -> None:
    index, (first, second) = made_up(0, shards=3, images=40), plans(0, 40)
    timeline = Timeline(3)
    timeline.append(EpochUses(index, first, 0))
    timeline.append(EpochUses(index, second, timeline.end))

    assert timeline.epoch_end(0) == timeline.epoch_end(len(first) - 1) == len(first) - 1
    assert timeline.epoch_end(len(first)) == timeline.end - 1 == 2 * len(first) - 1

    timeline.forget_before(len(first))
    assert timeline.needed_bytes(0, len(first) - 1).sum() == 0
    assert timeline.next_uses(np.zeros(3, np.int64)).min() >= len(first)


@pytest.mark.parametrize("batches", [0, 1])
def test_a_node_without_rows_needs_nothing(batches: int) -> None:
    index = made_up(0, shards=2, images=4)
    timeline = Timeline(2)
    timeline.append(EpochUses(index, np.empty((batches, 0), np.int64), 0))

    assert timeline.next_uses(np.zeros(2, np.int64)).tolist() == [NEVER, NEVER]
    assert timeline.needed_bytes(0, 5).tolist() == [0, 0]
    assert len(timeline.rows_of(1, 0, 5)) == 0
