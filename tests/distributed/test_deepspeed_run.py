"""A whole run by DeepSpeed: evaluated, committed, resumed, and its weights written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.journal import read_journal
from octoscale.train import train
from tests.distributed.ranks import on_ranks


def run(world: World, values: dict[str, Any]) -> str:
    return train(parse_config(values, source="of the test"), world, quiet=True).status


@pytest.mark.slow
def test_a_run_goes_from_engine_to_engine(tmp_path: Path, drawn_faces: Path, small_run: Any) -> None:
    verify = drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "every_steps": 1}

    def values(name: str, steps: int, stage: int | None) -> dict[str, Any]:
        engine: dict[str, Any] = {"engine": "ddp"}
        if stage is not None:
            engine = {"engine": "deepspeed", "deepspeed": {"zero_optimization": {"stage": stage}}}
        # Adam would divide a small gradient by its own size, and so show fp32's rounding of it.
        optimizer = {"name": "sgd", "learning_rate": 0.1}
        return small_run(
            tmp_path / name, steps=steps, micro_batch_size=3, evaluate=evaluate, optimizer=optimizer, **engine
        )

    run(World(), values("one", 6, None))
    # Evaluated between the steps: under ZeRO 3 the network is partitioned then, too.
    on_ranks(2, run, values("many", 2, 3))
    on_ranks(1, run, values("many", 3, 1))
    run(World(), values("many", 4, None))
    on_ranks(2, run, values("many", 6, 3))

    found, expected = (read_journal(Store(str(tmp_path / name))) for name in ("many", "one"))
    assert [line.step for line in found] == [1, 2, 3, 4, 5, 6]
    for line, other in zip(found, expected, strict=True):
        assert line.sample_ids_crc32 == other.sample_ids_crc32
        # fp32, summed in another order.
        assert line.result.loss == pytest.approx(other.result.loss, rel=1e-5)
    weights, wanted = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("many", "one"))
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def message(world: World, values: dict[str, Any]) -> str:
    with pytest.raises(OctoscaleError) as error:
        run(world, values)
    return str(error.value)


def test_a_batch_that_the_ranks_do_not_divide_is_told_as_under_ddp(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path, global_batch_size=18, engine="deepspeed")
    assert "18" in on_ranks(2, message, values)[0]
