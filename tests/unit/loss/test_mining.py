"""The negatives are those of brute force in fp64, however the work is cut and in whatever precision it starts."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octoscale.errors import OctoscaleError
from octoscale.loss import TERMS, Octuplet, Triplets, octuplet, octuplet_loss, refinement, rows
from octoscale.loss.mining import Tiling
from octoscale.loss.rows import coarse_dtype
from tests.unit.loss import brute_force, oracle

RULES = ["hardest", "semihard", "rank(2)", "top_k_mean(3)", "positive_aware(0.9)", "positive_aware(1.2)"]
TILINGS = [
    Tiling(tile, segment, dtype)
    for tile, segment in ((16, 16), (64, 16), (96, 32), (1024, 64))
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
]


def batch(count: int, dim: int, *, seed: int = 0, images: int = 2, spread: float = 0.6) -> tuple[torch.Tensor, ...]:
    """fp32 embeddings of `count` images, `images` per identity, around a common centre, with norms of about 20."""
    generator = torch.Generator().manual_seed(seed)
    identities = torch.arange(count) // images
    people = torch.randn(count // images + 1, dim, generator=generator)[identities]
    high, low = (people + noise * torch.randn(count, dim, generator=generator) for noise in (spread, 1.5 * spread))
    factor = 18 / dim**0.5
    return high * factor + 0.5, low * factor + 0.5, identities


def rows_of(found: Octuplet) -> dict[str, list[list[int]]]:
    """Anchor, positive, negatives, by term."""
    return {term: as_lists(result.triplets) for term, result in found.terms.items()}


def as_lists(triplets: Triplets) -> list[list[int]]:
    negatives = triplets.negatives if triplets.negatives.ndim == 2 else triplets.negatives[:, None]
    return torch.cat([triplets.anchors[:, None], triplets.positives[:, None], negatives], dim=1).tolist()


@pytest.mark.parametrize("negatives", RULES)
@pytest.mark.parametrize("metric", ["euclidean", "euclidean_squared", "cosine"])
def test_every_rule_equals_the_loops_of_the_specification(metric: Any, negatives: str) -> None:
    for images in (2, 3):
        high, low, identities = batch(18, 5, images=images, spread=1.0)
        margin = 0.2 if metric == "cosine" else 6.0
        expected, chosen = oracle.octuplet(
            high.double().numpy(), low.double().numpy(), identities.tolist(),
            margin=margin, metric=metric, normalize=False, terms=tuple(TERMS), negatives=negatives,
        )  # fmt: skip
        found = octuplet(high.double(), low.double(), identities, margin=margin, metric=metric, negatives=negatives)
        assert float(found.loss) == pytest.approx(expected, rel=1e-9)
        assert rows_of(found) == {term: [list(rows) for rows in triplets] for term, triplets in chosen.items()}


@pytest.mark.parametrize("negatives", RULES)
def test_every_tiling_and_precision_chooses_the_same_negatives(negatives: str) -> None:
    high, low, identities = batch(302, 24)
    order = torch.randperm(len(identities), generator=torch.Generator().manual_seed(1))
    for chosen in (slice(None), order):
        given = high[chosen], low[chosen], identities[chosen]
        _, expected = brute_force.octuplet(*given, margin=25.0, negatives=negatives)
        for tiling in TILINGS:
            found = octuplet(*given, negatives=negatives, tiling=tiling)
            assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}, tiling


@pytest.mark.parametrize("dim", [1, 3, 130])
@pytest.mark.parametrize("images", [2, 5])
def test_any_length_and_number_of_images(dim: int, images: int) -> None:
    high, low, identities = batch(95, dim, images=images)
    _, expected = brute_force.octuplet(high, low, identities, margin=25.0)
    for dtype in (torch.float32, torch.bfloat16):
        found = octuplet(high, low, identities, tiling=Tiling(32, 16, dtype))
        assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}


@pytest.mark.parametrize("scale", [1e-36, 1e-18, 1e-6, 1.0, 1e6, 1e17])
def test_embeddings_of_any_size(scale: float) -> None:
    high, low, identities = batch(80, 16)
    _, expected = brute_force.octuplet(high, low, identities, margin=25.0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        found = octuplet(high * scale, low * scale, identities, tiling=Tiling(64, 16, dtype))
        assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}


@pytest.mark.parametrize("trouble", ["collapsed", "two points", "outlier", "duplicates", "all equal", "far centre"])
def test_embeddings_that_coarse_products_cannot_tell_apart(trouble: str) -> None:
    high, low, identities = batch(120, 16)
    if trouble == "collapsed":
        high, low = 3 + 1e-4 * high, 3 + 1e-4 * low
    elif trouble == "two points":
        side = torch.where(torch.arange(120) % 4 < 2, 1.0, -1.0)[:, None]
        high, low = 20 * side + 1e-4 * high, 20 * side + 1e-4 * low
    elif trouble == "outlier":
        high[17] *= 1e4
    elif trouble == "duplicates":
        high[40:80] = high[:40]
        low[60:] = high[:60]
    elif trouble == "all equal":
        high, low = torch.ones_like(high), torch.ones_like(low)
    else:
        high, low = high + 1000, low + 1000
    _, expected = brute_force.octuplet(high, low, identities, margin=25.0)
    for tiling in TILINGS:
        found = octuplet(high, low, identities, tiling=tiling)
        assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}, tiling


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_batch_equals_brute_force_ties_included(data: st.DataObject) -> None:
    count = data.draw(st.integers(6, 70))
    labels = data.draw(
        st.lists(st.integers(0, 12), min_size=count, max_size=count).filter(lambda i: 4 < len(set(i)) < count)
    )
    # Small integers: many distances are equal, and every one of them is exact in fp64.
    seed = data.draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    high, low = (torch.randint(-3, 4, (count, 3), generator=generator).float() for _ in range(2))
    negatives = data.draw(st.sampled_from(["hardest", "semihard", "rank(3)", "top_k_mean(2)", "positive_aware(1.0)"]))
    identities = torch.tensor(labels)
    margin = 2.0
    expected, chosen = brute_force.octuplet(
        high, low, identities, margin=margin, metric="euclidean_squared", negatives=negatives
    )
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    found = octuplet(
        high, low, identities, margin=margin, metric="euclidean_squared", negatives=negatives,
        tiling=Tiling(data.draw(st.sampled_from([16, 32, 1024])), 16, dtype),
    )  # fmt: skip
    assert rows_of(found) == {term: triplets.tolist() for term, triplets in chosen.items()}
    assert float(found.loss) == pytest.approx(float(expected), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("negatives", RULES)
@pytest.mark.parametrize(
    ("metric", "normalize"), [("euclidean", False), ("cosine", False), ("euclidean_squared", True)]
)
def test_gradients_equal_those_of_brute_force(metric: Any, normalize: bool, negatives: str) -> None:
    high, low, identities = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(90, 12))
    margin = 0.2 if metric == "cosine" or normalize else 4.0
    found, wanted = [], []
    for gradients, function in ((found, octuplet_loss), (wanted, lambda *a, **k: brute_force.octuplet(*a, **k)[0])):
        leaves = high.clone().requires_grad_(), low.clone().requires_grad_()
        function(*leaves, identities, margin=margin, metric=metric, normalize=normalize, negatives=negatives).backward()
        gradients += [leaf.grad for leaf in leaves]
    for gradient, expected in zip(found, wanted, strict=True):
        assert expected.norm() > 0
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_work_done_in_many_parts_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    high, low, identities = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(90, 12))
    expected = brute_force.octuplet(high.requires_grad_(), low, identities, margin=4.0, negatives="top_k_mean(2)")
    expected[0].backward()
    wanted, high.grad = high.grad, None
    # Seven rows of fp64 differences.
    monkeypatch.setattr(rows, "_CPU_BYTES", 7 * 12 * 8)
    monkeypatch.setattr(refinement, "_ROWS_AT_ONCE", 32)
    monkeypatch.setattr(refinement, "_TASKS_PER_GROUP", 3)
    for dtype in (torch.float64, torch.bfloat16):
        found = octuplet(high, low, identities, margin=4.0, negatives="top_k_mean(2)", tiling=Tiling(32, 16, dtype))
        found.loss.backward()
        assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected[1].items()}
        assert high.grad is not None
        torch.testing.assert_close(high.grad, wanted, rtol=1e-9, atol=1e-12)
        high.grad = None


def test_fp32_gradients_are_those_of_direct_differences() -> None:
    # At distance 0.03 and norm 23 the gradient through a product of matrices is off by 11 %.
    high, low, identities = batch(64, 32)
    high, low = (23 * torch.nn.functional.normalize(high[:1], dim=1) + 0.005 * side for side in (high, low))
    leaf = high.clone().requires_grad_()
    octuplet_loss(leaf, low, identities, margin=1.0).backward()
    exact = high.double().requires_grad_()
    brute_force.octuplet(exact, low.double(), identities, margin=1.0)[0].backward()
    assert leaf.grad is not None
    assert exact.grad is not None
    assert float((leaf.grad - exact.grad).norm() / exact.grad.norm()) < 1e-4


def test_a_scaled_loss_scales_its_gradients_and_no_graph_is_kept() -> None:
    high, low, identities = batch(32, 8)
    leaf = high.clone().requires_grad_()
    (3 * octuplet_loss(leaf, low, identities)).backward()
    once = high.clone().requires_grad_()
    octuplet_loss(once, low, identities).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, 3 * once.grad)
    with torch.no_grad():
        assert not octuplet_loss(high.clone().requires_grad_(), low, identities).requires_grad


def test_no_matrix_of_all_pairs_exists() -> None:
    # A batch whose matrix of distances, 2B × 2B in fp32, would take 1 GiB.
    high, low, identities = batch(8192, 8)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*arguments, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.untyped_storage().nbytes())
            return result

    with Largest():
        octuplet_loss(high, low, identities)
    # The bounds of all segments: 8192 × 128 of them.
    assert largest <= 8 * 2**20


def test_no_product_is_less_precise_than_it_looks() -> None:
    high, low, identities = batch(64, 8)
    seen = set()

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), kwargs: Any = None) -> Any:
            if "mm" in str(function):
                cuda, cpu = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
                seen.add((cuda.fp32_precision, cpu.fp32_precision, cuda.allow_fp16_reduced_precision_reduction))
            return function(*arguments, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    try:
        for chosen in ("medium", "highest"):
            torch.set_float32_matmul_precision(chosen)
            with Seen():
                octuplet_loss(high, low, identities)
            assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == {("ieee", "ieee", False)}


def test_the_search_starts_in_bf16_only_where_it_is_fast() -> None:
    cpu = torch.device("cpu")
    assert coarse_dtype(cpu, torch.float64) == torch.float64
    assert coarse_dtype(cpu, torch.float32) in (torch.float32, torch.bfloat16)
    assert coarse_dtype(torch.device("cuda"), torch.float32) == torch.float16


@pytest.mark.parametrize(
    "negatives", ["easiest", "rank", "rank(0)", "rank(x)", "top_k_mean(-1)", "positive_aware(0)", "hardest(2)"]
)
def test_an_unknown_rule_is_named(negatives: str) -> None:
    with pytest.raises(OctoscaleError, match=r"unknown rule for negatives .*top_k_mean"):
        octuplet_loss(*batch(8, 4), negatives=negatives)


def test_more_negatives_than_there_are_is_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"7 nearest negatives .* 2 of the global batch's 8 images has only 6"):
        octuplet_loss(*batch(8, 4), negatives="rank(7)")


def test_an_anchor_without_a_negative_by_the_rule_counts_as_zero() -> None:
    # Identity 0's images are farther apart than anyone else is from them.
    high = torch.tensor([[0.0], [100.0], [40.0], [41.0]])
    found = octuplet(high, high, torch.tensor([0, 0, 1, 1]), margin=80.0, terms=["hhh"], negatives="semihard")
    assert found.terms["hhh"].triplets.anchors.tolist() == [2, 3]
    # d(a,p) = 1 for both; nearest farther ones: 40 and 41.
    assert float(found.loss) == pytest.approx(((1 - 40 + 80) + (1 - 41 + 80)) / 4)
