"""The model's settings."""

import pytest
from pydantic import ValidationError

from octoscale.models import Preprocessing
from octoscale.models.config import ModelConfig
from octoscale.models.network import PreprocessingConfig


def test_a_name_is_enough() -> None:
    config = ModelConfig(name="tiny")
    assert (config.weights, config.embedding_dim, config.batch_norm, config.preprocessing) == (
        None,
        None,
        "frozen",
        None,
    )


def test_a_preprocessing_block_becomes_a_preprocessing() -> None:
    block = {"mean": [1, 2, 3], "std": [4, 5, 6], "color": "bgr"}
    config = ModelConfig.model_validate({"name": "tiny", "preprocessing": block})
    assert config.preprocessing is not None
    assert config.preprocessing.over(Preprocessing()) == Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr")


def test_a_field_of_the_preprocessing_leaves_the_others() -> None:
    own = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert PreprocessingConfig(color="bgr").over(own) == Preprocessing(own.mean, own.std, "bgr")


def test_settings_survive_a_round_trip() -> None:
    config = ModelConfig(name="tiny", weights="w.pt", embedding_dim=8, preprocessing=PreprocessingConfig(color="bgr"))
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ({"embedding_dims": 3}, "embedding_dims"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"batch_norm": "train"}, "batch_norm"),
        ({"preprocessing": {"colour": "bgr"}}, r"preprocessing\.colour"),
        ({"preprocessing": {"color": "grey"}}, r"preprocessing\.color"),
        ({"preprocessing": {"std": [0, 1, 1]}}, r"preprocessing\.std"),
        ({"preprocessing": {"mean": [1, 2]}}, r"preprocessing\.mean"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(block: dict[str, object], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        ModelConfig.model_validate({"name": "tiny", **block})


@pytest.mark.parametrize("name", ["face.pt", "face.pt2", "face.onnx"])
def test_a_graph_is_not_compiled(name: str) -> None:
    with pytest.raises(ValidationError, match=r"as it was exported: leave model\.compile out"):
        ModelConfig(name=name, compile=True)


@pytest.mark.parametrize(
    ("others", "where"),
    [({"activation_checkpointing": True}, "activation_checkpointing"), ({"batch_norm": "sync"}, "batch_norm=sync")],
)
def test_what_a_compiled_network_cannot_do_is_refused(others: dict[str, object], where: str) -> None:
    with pytest.raises(ValidationError, match=f"compile and {where} exclude each other"):
        ModelConfig.model_validate({"name": "tiny", "compile": True, **others})
