"""What the loss does to the length of all embeddings together: docs/fine-tuning.md tells users to look at it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octoscale.loss import octuplet
from octoscale.loss.distance import Metric


def pull(metric: Metric, margin: float, seed: int, spread: float, *, normalize: bool = False) -> tuple[Tensor, Tensor]:
    """The derivative of the loss by a common factor of all embeddings, and what the terms' figures say of it."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, 5, generator=generator, dtype=torch.float64).repeat_interleave(2, 0)
    high = centres + spread * torch.randn(12, 5, generator=generator, dtype=torch.float64)
    low = centres + 2 * spread * torch.randn(12, 5, generator=generator, dtype=torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    identities = torch.arange(6).repeat_interleave(2)
    found = octuplet(scale * high, scale * low, identities, margin=margin, metric=metric, normalize=normalize)
    (slope,) = torch.autograd.grad(found.loss, scale)
    degree = 2 if metric == "euclidean_squared" else 1
    told = [degree * (term.loss - margin * term.active_fraction) for term in found.terms.values()]
    return slope, torch.stack(told).sum()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 8.0), st.integers(0, 10_000), st.floats(0.01, 3.0))
def test_all_embeddings_shrink_where_the_loss_is_above_the_margin_and_grow_where_it_is_below(
    margin: float, seed: int, spread: float
) -> None:
    metric: Metric
    for metric in ("euclidean", "euclidean_squared"):
        slope, told = pull(metric, margin, seed, spread)
        torch.testing.assert_close(slope, told, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spread", [0.05, 2.0])
def test_directions_alone_have_no_length_to_change(spread: float) -> None:
    for metric, normalize in (("cosine", False), ("euclidean", True)):
        slope, _ = pull(metric, 0.5, 1, spread, normalize=normalize)  # type: ignore[arg-type]
        assert abs(slope.item()) < 1e-12


def test_tight_identities_make_them_grow_and_mixed_ones_shrink() -> None:
    grows, _ = pull("euclidean", 5.0, 1, 0.05)
    shrinks, _ = pull("euclidean", 5.0, 1, 3.0)

    # Down the slope: a negative one lengthens the embeddings.
    assert grows < 0 < shrinks
