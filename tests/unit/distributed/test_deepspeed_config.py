"""What the user's `deepspeed:` block may say."""

from typing import Any

import pytest

from octoscale.config import parse_config
from octoscale.distributed.deepspeed_config import deepspeed_config, zero_stage
from octoscale.errors import OctoscaleError
from tests.conftest import SmallRun

SETTINGS = {"optimizer.name": "adamw", "schedule.name": "cosine", "precision": "bf16"}


def configured(block: dict[str, Any], **changes: Any) -> dict[str, Any]:
    run = {"global_batch_size": 64, "rank_batch_size": 16, "precision": "bf16", "max_gradient_norm": 5.0} | changes
    return deepspeed_config(block, SETTINGS, **run)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"train_batch_size": 32}, r"train_batch_size is 32, but 64 follows .*global_batch_size"),
        ({"train_micro_batch_size_per_gpu": 8}, r"train_micro_batch_size_per_gpu is 8, but 16 follows .*÷ 4 ranks"),
        ({"gradient_accumulation_steps": 2}, r"gradient_accumulation_steps is 2, but 1 follows .*micro_batch_size"),
        ({"managed_gradient_accumulation": False}, r"managed_gradient_accumulation is False, but True follows"),
        ({"gradient_clipping": 1.0}, r"gradient_clipping is 1\.0, but 5\.0 follows .*optimizer\.max_gradient_norm"),
        ({"optimizer": {"type": "Lamb"}}, r"optimizer is .*Lamb.* by optimizer\.name, which is adamw: remove"),
        ({"scheduler": {"type": "WarmupLR"}}, r"scheduler is .*WarmupLR.* by schedule\.name, which is cosine: remove"),
        ({"fp16": {"enabled": True}}, r"fp16 is .*True.* by precision, which is bf16: remove deepspeed\.fp16"),
        ({"bf16": {"enabled": False}}, r"bf16 is .*False.* by precision, which is bf16: remove deepspeed\.bf16"),
        ({"torch_autocast": {"enabled": True}}, r"torch_autocast is .*by precision"),
        ({"zero_optimization": {"stage": 4}}, r"zero_optimization\.stage is 4; choose 0, 1, 2 or 3"),
        ({"zero_optimization": 2}, r"zero_optimization is 2; it must be a block with a stage"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_is_not_the_runs_is_refused_with_both_values(block: dict[str, Any], message: str) -> None:
    with pytest.raises(OctoscaleError, match=rf"deepspeed\.{message}"):
        configured(block)


def test_equal_values_auto_and_deepspeeds_own_settings_pass() -> None:
    zero = {"stage": 2, "reduce_bucket_size": 1000}
    found = configured({"train_batch_size": 64, "gradient_clipping": "auto", "zero_optimization": zero, "amp": "auto"})

    assert found["zero_optimization"] == zero
    assert (found["train_batch_size"], found["train_micro_batch_size_per_gpu"]) == (64, 16)
    assert (found["gradient_accumulation_steps"], found["gradient_clipping"]) == (1, 5.0)
    assert found["torch_autocast"]["dtype"] == "bfloat16"
    assert "amp" not in found
    assert "torch_autocast" not in configured({}, precision="fp32")
    assert configured({}, max_gradient_norm=None)["gradient_clipping"] == 0


def test_the_stage_is_zero_unless_it_is_told() -> None:
    assert zero_stage({}) == 0
    assert zero_stage({"zero_optimization": {"stage": 3}}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "deepspeed block belongs to engine=deepspeed, .* is ddp"),
        ({"engine": "deepspeed", "precision": "fp16"}, "in fp32 or bf16, not fp16"),
        (
            {
                "engine": "deepspeed",
                "deepspeed": {"zero_optimization": {"stage": 3}},
                "model": {"compile": True},
            },
            "model.compile works with ZeRO 0 to 2, .* is 3",
        ),
        ({"micro_batch_size": 17}, "micro_batch_size is 17, more than global_batch_size, 16"),
        ({"micro_batch_size": 0}, "micro_batch_size: .*greater than or equal to 1"),
        ({"engine": "horovod"}, "engine: .*'horovod'"),
        ({"model": {"batch_norm": "train"}}, "model.batch_norm: .*'frozen', 'sync' or 'chunk', not 'train'"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(small_run: SmallRun, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        parse_config(small_run("run", **changes), source="of the test")
