"""``octoscale weights inspect`` and ``octoscale export``."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.models import load, save_weights
from octoscale.train import train
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused
from tests.unit.models import published


def test_inspect_tells_what_a_file_is(call: Octoscale, tmp_path: Path) -> None:
    state = published.zeros(published.iresnet(100), "features.module.")
    state["parallel_fc.weight"] = torch.zeros(3)
    path = published.write(tmp_path / "magface_epoch_00025.pth", state, inside="state_dict")

    found = json.loads(call("weights", "inspect", path, "--json").out)
    assert found == {
        "event": "weights", "path": str(path),
        "dialect": "magface", "candidates": [], "network": "iresnet100", "embedding_dim": 512, "color": "bgr",
        "mean": [0, 0, 0], "std": [255, 255, 255], "batch_norm_epsilon": 2e-5, "parameters": 65_156_160, "tensors": 925,
        "left_out": ["parallel_fc.weight"], "octoscale": None,
    }  # fmt: skip
    table = call("weights", "inspect", path)
    assert table.code == 0
    assert "iresnet100" in table.out
    assert "65,156,160" in table.out


def test_inspect_tells_what_octoscale_wrote(call: Octoscale, tmp_path: Path) -> None:
    save_weights(load("tiny", batch_norm_epsilon=1e-3), tmp_path / "tiny.pt")
    found = json.loads(call("weights", "inspect", tmp_path / "tiny.pt", "--json").out)
    assert (found["network"], found["dialect"], found["batch_norm_epsilon"]) == ("tiny", None, 1e-3)


def test_inspect_lists_the_candidates_and_takes_a_dialect(call: Octoscale, tmp_path: Path) -> None:
    path = published.write(tmp_path / "model_ir_se50.pth", published.zeros(published.ir(50, facex=True, excited=True)))
    found = json.loads(call("weights", "inspect", path, "--json").out)
    assert (found["dialect"], found["network"], found["color"]) == (None, "facex_irse50", None)
    assert found["candidates"] == ["face_evolve", "insightface_pytorch", "facex_zoo"]
    told = json.loads(call("weights", "inspect", path, "--dialect", "insightface_pytorch", "--json").out)
    assert (told["dialect"], told["color"], told["std"]) == ("insightface_pytorch", "bgr", [127.5] * 3)
    refused(call("weights", "inspect", path, "--dialect", "nobody"), "no dialect 'nobody'", "face_evolve")


def test_inspect_says_that_it_does_not_know(call: Octoscale, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3, 4)}, tmp_path / "mine.pt")
    found = json.loads(call("weights", "inspect", tmp_path / "mine.pt", "--json").out)
    assert (found["dialect"], found["network"], found["parameters"]) == (None, None, 12)
    refused(call("weights", "inspect", tmp_path / "absent.pt"), "no file", "absent.pt")


def test_a_run_is_exported_and_its_file_evaluated(
    call: Octoscale, small_run: SmallRun, drawn_faces: Path, tmp_path: Path
) -> None:
    for library in ("onnx", "onnxruntime", "onnxscript", "safetensors"):
        pytest.importorskip(library)
    verify = drawn_faces / "verify"
    settings = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [32], "modes": ["same"]}
    values = small_run(tmp_path / "run", evaluate=settings)
    train(parse_config(values, source="of the test"), World(), quiet=True)
    onnx = tmp_path / "out" / "face.onnx"

    answer = call(
        "export", tmp_path / "run", "--onnx", onnx, "--torchscript", tmp_path / "face.pt",
        "--safetensors", tmp_path / "face.safetensors", "--image-size", "32",
    )  # fmt: skip

    assert answer.code == 0, answer
    assert answer.out.count("within") == 3
    inspected = json.loads(call("weights", "inspect", onnx, "--json").out)
    assert (inspected["network"], inspected["embedding_dim"], inspected["image_size"]) == ("tiny", 16, 32)
    scores = []
    own = {"name": "tiny", "embedding_dim": 16, "weights": str(tmp_path / "face.safetensors")}
    for model in ({"name": str(onnx)}, own):
        config = tmp_path / "evaluate.yaml"
        config.write_text(yaml.safe_dump({**values, "model": model}))
        call("evaluate", config, "--scores", tmp_path / "scores.json")
        (score,) = json.loads((tmp_path / "scores.json").read_text())["scores"]
        # Decisions are equal; thresholds are where fp32 puts them.
        scores.append({key: score[key] for key in ("accuracy", "equal_error_rate", "area_under_curve", "curve")})
    assert scores[0] == scores[1]
    config.write_text(yaml.safe_dump({**values, "model": {"name": str(onnx)}, "directory": str(tmp_path / "again")}))
    refused(call("train", config), "no parameters to train")


def test_weights_of_another_project_are_exported_without_settings(call: Octoscale, tmp_path: Path) -> None:
    weights = published.write(tmp_path / "backbone.pth", published.zeros(published.mbf()))
    file = tmp_path / "face.pt"

    answer = call("export", weights, "--torchscript", file, "--json")

    assert answer.code == 0, answer
    assert json.loads(answer.out.splitlines()[-1])["step"] is None
    inspected = json.loads(call("weights", "inspect", file, "--json").out)
    assert (inspected["network"], inspected["dialect"], inspected["color"]) == ("mbf", "arcface_torch", "rgb")
    refused(call("export", weights, "--torchscript", file, "--step", 4), "--step 4 is of a run", "is a file")


def test_export_asks_what_to_write(call: Octoscale, tmp_path: Path) -> None:
    refused(call("export", tmp_path / "run.yaml"), "say what to write")
    (tmp_path / "face.onnx").mkdir()
    refused(call("export", tmp_path / "run.yaml", "--onnx", tmp_path / "face.onnx"), "--onnx: ", "is a folder")
