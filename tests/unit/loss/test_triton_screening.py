"""The fused kernel in Triton's interpreter, which is chosen at import: the checks run in a process of their own."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from octoscale.loss import octuplet
from octoscale.loss.mining import Tiling
from tests.unit.loss import brute_force
from tests.unit.loss.test_mining import RULES, batch, rows_of

pytest.importorskip("triton")


def check_every_rule() -> None:
    for rows, dim, images in ((70, 70, 2), (45, 20, 3)):
        high, low, identities = batch(rows, dim, images=images)
        for negatives in RULES:
            _, expected = brute_force.octuplet(high, low, identities, margin=25.0, negatives=negatives)
            for segment, dtype in ((16, torch.float16), (64, torch.float32)):
                tiling = Tiling(segment, segment, dtype, "triton")
                found = octuplet(high, low, identities, negatives=negatives, tiling=tiling)
                assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}, negatives


def check_subsets_and_full_blocks() -> None:
    high, low, identities = batch(300, 8)
    for terms in (("hll",), ("lhh", "lll"), ("hhh", "hll", "lhh", "lll")):
        _, expected = brute_force.octuplet(high, low, identities, margin=25.0, terms=terms)
        found = octuplet(high, low, identities, terms=terms, tiling=Tiling(256, 256, torch.float16, "triton"))
        assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}


@pytest.mark.parametrize("check", [check_every_rule, check_subsets_and_full_blocks], ids=lambda check: check.__name__)
def test_the_fused_kernel_in_the_interpreter_chooses_as_brute_force_does(check: Callable[[], None]) -> None:
    name = check.__name__
    code = f"from tests.unit.loss.test_triton_screening import {name}; {name}()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"}, timeout=240)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("negatives", RULES)
def test_the_compiled_kernel_chooses_as_brute_force_does(negatives: str) -> None:
    high, low, identities = batch(602, 96)
    _, expected = brute_force.octuplet(high, low, identities, margin=25.0, negatives=negatives)
    found = octuplet(high.cuda(), low.cuda(), identities.cuda(), negatives=negatives)
    assert rows_of(found) == {term: triplets.tolist() for term, triplets in expected.items()}
