"""Which world size the workers that a cluster offers become."""

import pytest

pytest.importorskip("ray")

from octoscale.orchestrate.elastic import nearest_size


@pytest.mark.parametrize(("offered", "chosen"), [(0, 0), (1, 0), (2, 2), (3, 2), (5, 4), (8, 8), (9, 8)])
def test_the_nearest_smaller_size_is_chosen(offered: int, chosen: int) -> None:
    assert nearest_size([2, 4, 8], offered) == chosen
