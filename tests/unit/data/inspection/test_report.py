"""The histogram of images per identity."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.inspection.report import histogram


@given(st.lists(st.integers(2, 50_000), min_size=1))
def test_bins_hold_everybody_once(counts: list[int]) -> None:
    bins = histogram(np.array(counts))

    for item in bins:
        mine = [count for count in counts if item.least <= count <= item.most]
        assert (item.identities, item.images) == (len(mine), sum(mine))
    assert sum(item.identities for item in bins) == len(counts)
    assert bins[0].identities > 0
    assert bins[-1].identities > 0
    assert all(one.most + 1 == two.least for one, two in pairwise(bins))
