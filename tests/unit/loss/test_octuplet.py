"""The octuplet loss against its specification, and its errors."""

import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscale import OctupletLoss, octuplet_loss
from octoscale.loss import TERMS, octuplet
from tests.unit.loss import oracle

METRICS = ("euclidean", "euclidean_squared", "cosine")
SUBSETS = [subset for size in range(1, 5) for subset in combinations(TERMS, size)]


def embeddings(identities: list[int], dim: int = 6, seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(identities) + 1, dim, generator=generator, dtype=torch.float64) * scale
    high, low = (
        centres[identities] + torch.randn(len(identities), dim, generator=generator, dtype=torch.float64) * noise
        for noise in (1.0, 2.0)
    )
    return high, low, torch.tensor(identities)


def margin_for(metric: str, normalize: bool) -> float:
    return 0.3 if metric == "cosine" or normalize else 5.0


@pytest.mark.parametrize("terms", SUBSETS, ids="+".join)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_loss_and_choice_equal_the_oracle(metric: Any, normalize: bool, terms: tuple[str, ...]) -> None:
    high, low, identities = embeddings([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    margin = margin_for(metric, normalize)
    expected, chosen = oracle.octuplet(
        high.numpy(), low.numpy(), identities.tolist(), margin=margin, metric=metric, normalize=normalize, terms=terms
    )
    for dtype in (torch.float64, torch.float32):
        found = octuplet(
            high.to(dtype), low.to(dtype), identities, margin=margin, metric=metric, normalize=normalize, terms=terms
        )
        assert found.loss.dtype == dtype
        assert float(found.loss) == pytest.approx(expected, rel=1e-6)
        for term in terms:
            triplets = found.terms[term].triplets
            rows = torch.stack([triplets.anchors, triplets.positives, triplets.negatives], 1).tolist()
            assert [tuple(row) for row in rows] == chosen[term]


@settings(max_examples=60, deadline=None)
@given(
    identities=st.lists(st.integers(0, 4), min_size=3, max_size=12).filter(
        lambda ids: len(set(ids)) > 1 and len(set(ids)) < len(ids)
    ),
    seed=st.integers(0, 10_000),
    metric=st.sampled_from(METRICS),
)
def test_any_labels_and_any_number_of_images_per_identity_equal_the_oracle(
    identities: list[int], seed: int, metric: Any
) -> None:
    high, low, labels = embeddings(identities, seed=seed)
    expected, _ = oracle.octuplet(
        high.numpy(), low.numpy(), identities, margin=2.0, metric=metric, normalize=False, terms=tuple(TERMS)
    )
    assert float(octuplet_loss(high, low, labels, margin=2.0, metric=metric)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_gradient_equals_finite_differences(metric: Any, normalize: bool) -> None:
    high, low, identities = embeddings([0, 0, 1, 1, 2, 2], dim=3)
    high.requires_grad_()
    low.requires_grad_()

    def loss(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        return octuplet_loss(
            high, low, identities, metric=metric, normalize=normalize, margin=margin_for(metric, normalize)
        )

    assert torch.autograd.gradcheck(loss, (high, low))


def test_gradient_is_finite_where_anchor_and_positive_coincide() -> None:
    high, low, identities = embeddings([0, 0, 1, 1])
    high[1] = high[0]
    low[1] = high[0]
    low[0] = high[0]
    high.requires_grad_()
    octuplet_loss(high, low, identities).backward()
    assert high.grad is not None
    assert bool(torch.isfinite(high.grad).all())


def test_inactive_anchors_count_as_zero_in_the_mean() -> None:
    high = torch.tensor([[0.0], [1.0], [100.0], [100.0]])
    found = octuplet(high, high, torch.tensor([0, 0, 1, 1]), margin=99.5, terms=["hhh"])
    # d(a,p) − d(a,n) + margin: 1 − 100 + 99.5, 1 − 99 + 99.5, 0 − 99 + 99.5 twice.
    assert float(found.loss) == pytest.approx((0.5 + 1.5 + 0.5 + 0.5) / 4)
    found = octuplet(high, high, torch.tensor([0, 0, 1, 1]), margin=98.5, terms=["hhh"])
    assert float(found.loss) == pytest.approx(0.5 / 4)
    assert float(found.terms["hhh"].active_fraction) == pytest.approx(1 / 4)
    assert float(found.terms["hhh"].positive_distance) == pytest.approx(0.5)
    assert float(found.terms["hhh"].negative_distance) == pytest.approx((100 + 99 + 99 + 99) / 4)


def test_the_same_image_at_another_resolution_is_no_positive() -> None:
    # Image 0 is far from its own low-resolution copy; the positive of hll must still be image 1.
    high = torch.tensor([[0.0], [1.0], [50.0], [50.0]])
    low = torch.tensor([[30.0], [2.0], [50.0], [50.0]])
    found = octuplet(high, low, torch.tensor([0, 0, 1, 1]), terms=["hll"])
    assert found.terms["hll"].triplets.positives.tolist() == [1, 0, 3, 2]


def test_half_precision_embeddings_are_subtracted_in_fp32() -> None:
    high, low, identities = embeddings([0, 0, 1, 1, 2, 2])
    high, low = high.bfloat16(), low.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = octuplet_loss(high, low, identities)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, octuplet_loss(high.float(), low.float(), identities))


def test_module_and_function_agree() -> None:
    high, low, identities = embeddings([0, 0, 1, 1, 2, 2])
    module = OctupletLoss(margin=3.0, metric="cosine", terms=("hll", "lhh"))
    expected = octuplet_loss(high, low, identities, margin=3.0, metric="cosine", terms=("hll", "lhh"))
    assert torch.equal(module(high, low, identities), expected)


def test_the_loss_needs_torch_alone() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import octoscale; octoscale.octuplet_loss;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "sys.exit(str(new) if new & {'pydantic', 'fsspec', 'yaml', 'rich', 'PIL', 'webdataset', 'ray'} else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, low, i: (h[:3], low, i), r"\(3, 6\), \(4, 6\) and \(4,\)"),
        (lambda h, low, i: (h, low, i[:3]), r"and \(3,\)"),
        (lambda h, low, i: (h.long(), low.long(), i), "floating"),
        (lambda h, low, i: (h, low.float(), i), "one dtype"),
        (lambda h, low, i: (h, low, i.int()), "int64"),
        (lambda h, low, i: (h, low, torch.zeros_like(i)), "one identity"),
        (lambda h, low, i: (h, low, torch.arange(4)), "no positive exists"),
        (lambda h, low, i: (h.index_fill(0, torch.tensor([2]), torch.nan), low, i), "1 of 4 high .* row 2"),
        (lambda h, low, i: (h, low.index_fill(0, torch.tensor([1]), torch.inf), i), "1 of 4 low .* row 1"),
        (lambda h, low, i: (h.to("meta"), low, i), "share a device"),
    ],
)
def test_unusable_inputs_are_named(change: Any, message: str) -> None:
    high, low, identities = embeddings([0, 0, 1, 1])
    with pytest.raises(ValueError, match=message):
        octuplet_loss(*change(high, low, identities))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "unknown metric 'manhattan'"),
        ({"terms": ("hhh", "hlh")}, "terms must be"),
        ({"terms": ()}, "at least one"),
        ({"terms": ("hhh", "hhh")}, "distinct"),
        ({"margin": float("nan")}, "margin"),
        ({"margin": -1.0}, "margin"),
    ],
)
def test_unusable_options_are_named_before_any_batch(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OctupletLoss(**options)
