"""The command line: the whole way on a small data set, and one clear message for everything that the user can mend."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import octoscale
import octoscale.train
from octoscale.data.pack import pack
from octoscale.evaluate.evaluation import Evaluation
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused

# The whole way.


def test_the_whole_way_from_faces_to_figures(
    call: Octoscale, small_run: SmallRun, drawn_faces: Path, tmp_path: Path
) -> None:
    packed, run, verify = tmp_path / "packed", tmp_path / "run", drawn_faces / "verify"

    answer = call("pack", drawn_faces / "train", packed)
    assert answer.code == 0
    assert f"packed 96 images of 24 identities, 32 px, into 1 shards, 0.3 MiB, at {packed}\n" in answer.out

    answer = call("inspect", packed)
    assert answer.code == 0
    shown = dict(line.strip().split("  ", 1) for line in answer.out.splitlines()[:10])
    shown = {key: value.strip() for key, value in shown.items()}
    assert shown["images"] == "96"
    assert shown["largest global batch"] == "48"
    assert shown["images per identity"] == "4 to 4, median 4, mean 4.0"
    assert shown["fingerprint"] == json.loads((packed / "manifest.json").read_text())["fingerprint"]

    values = small_run(run, data={"url": str(packed)}, checkpoint={"keep_last": 9})
    values["evaluate"] = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32]}
    values["evaluate"]["every_steps"] = 2
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    answer = call("train", config)
    assert answer.code == 0
    assert "cross, step 0" in answer.out
    assert "same, step 4" in answer.out
    assert "committed step 4" in answer.err

    scores: dict[str, Evaluation] = {}
    for name, arguments in {"start": [config], "newest": [run], "best": [run, "--best"]}.items():
        answer = call(
            "evaluate", *arguments, "--scores", tmp_path / f"out/{name}.json", "--figures", tmp_path / "figures"
        )
        assert answer.code == 0
        assert "Verification accuracy" in answer.out
        assert f"wrote {tmp_path / 'figures' / 'roc.png'}\n" in answer.out
        scores[name] = Evaluation.from_json((tmp_path / f"out/{name}.json").read_text())
    assert (tmp_path / "figures/roc.png").read_bytes().startswith(b"\x89PNG")
    kept = {step: Evaluation.from_json((run / f"evaluations/{step:08d}.json").read_text()) for step in (0, 2, 4)}
    assert scores["start"].scores == kept[0].scores
    assert scores["newest"].scores == kept[4].scores
    best = 2 if kept[2].mean_accuracy("cross") >= kept[4].mean_accuracy("cross") else 4
    assert (scores["best"].step, scores["best"].scores) == (best, kept[best].scores)


def test_evaluate_takes_pairs_and_images_that_the_run_does_not_configure(
    call: Octoscale, write: Any, drawn_faces: Path, tmp_path: Path
) -> None:
    config = write()
    refused(call("evaluate", config), config, "configures no evaluation", "--pairs and --images")

    answer = call("evaluate", config, "--pairs", drawn_faces / "verify/pairs.txt", "--images", drawn_faces / "verify")
    # Drawn at 32 px: the default resolutions do not fit.
    refused(answer, "evaluate.resolutions has 112 px", "the images have 32 px")


def test_noise_writes_a_ledger_of_the_network_and_the_data_set(call: Octoscale, write: Any, tmp_path: Path) -> None:
    config = write()
    for name, target in (("before", config), ("after", tmp_path / "run")):
        answer = call("noise", target, "--output", tmp_path / name, "--epochs", 2, "--top", 3)
        assert answer.code == 0, answer
        assert "Probable mislabels: the first 3 of" in answer.out
        # 24 identities: 12 in each batch.
        assert "batches of 24" in answer.out
        assert f"wrote {tmp_path / name}\n" in answer.out
        assert ("no model.weights" in answer.err) == (target == config)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "noise.json", "pairs.csv", "pairs.png", "samples.csv",
        ]  # fmt: skip
        if target == config:
            assert call("train", config).code == 0

    answer = call("noise", config, "seed=3", "--output", tmp_path / "other", "--epochs", 2, "--batch", 16, "--json")
    document = json.loads(answer.out.splitlines()[-1])
    written = json.loads((tmp_path / "other/noise.json").read_text())
    assert document == {"event": "noise", "url": str(tmp_path / "other"), **written}
    assert (document["survey"]["global_batch_size"], document["survey"]["anchors"] % 16) == (16, 0)


def test_noise_tells_what_it_cannot_do_before_the_work(call: Octoscale, write: Any, tmp_path: Path) -> None:
    config = write()
    (tmp_path / "file").write_text("")

    refused(call("noise", config, "--output", tmp_path / "file"), tmp_path / "file")
    refused(call("noise", config, "--output", tmp_path / "x", "--batch", 50), "needs 25 identities")
    refused(call("noise", config, "--output", tmp_path / "x", "--alpha", 1.5), "alpha is 1.5", "at most 1")
    refused(call("noise", tmp_path, "--output", tmp_path / "x"), "holds no checkpoint")


def test_config_show_prints_what_resolves_as_yaml_and_json(call: Octoscale, write: Any) -> None:
    config = write()
    answer = call("config", "show", config, "optimizer.learning_rate=0.25", "steps=9")
    assert answer.code == 0
    shown = yaml.safe_load(answer.out)
    assert (shown["optimizer"]["learning_rate"], shown["steps"], shown["loss"]["metric"]) == (0.25, 9, "euclidean")

    answer = call("config", "show", config, "optimizer.learning_rate=0.25", "steps=9", "--json")
    assert json.loads(answer.out) == {"event": "config", "config": shown}


def test_overrides_reach_the_training(call: Octoscale, write: Any, tmp_path: Path) -> None:
    assert call("train", write(), "steps=1", "--quiet").code == 0

    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["steps"] == 1
    assert [path.name for path in (tmp_path / "run/steps").iterdir()] == ["00000001.jsonl"]


def test_quiet_training_says_nothing(call: Octoscale, write: Any) -> None:
    answer = call("train", write(), "--quiet")

    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_a_run_that_is_asked_to_stop_exits_with_75(
    call: Octoscale, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = octoscale.train.training_step

    def terminated(*arguments: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **settings)

    monkeypatch.setattr(octoscale.train, "training_step", terminated)
    answer = call("train", write())

    assert answer.code == 75
    assert "step 1 is committed; start the same run again to go on" in answer.err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["pack"],
        ["index"],
        ["inspect"],
        ["doctor"],
        ["top"],
        ["train"],
        ["launch"],
        ["submit"],
        ["jobs"],
        ["jobs", "list"],
        ["jobs", "status"],
        ["jobs", "logs"],
        ["jobs", "stop"],
        ["evaluate"],
        ["compare"],
        ["embed"],
        ["verify"],
        ["noise"],
        ["quickstart"],
        ["config"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_every_command_has_help(call: Octoscale, command: list[str]) -> None:
    answer = call(*command, "--help")

    assert answer.code == 0
    assert "Usage: octoscale" in answer.out


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["pack", "only-one"], ["train", "a.yaml", "--wrong"]])
def test_a_wrong_use_exits_with_2(call: Octoscale, arguments: list[str]) -> None:
    answer = call(*arguments)

    assert answer.code == 2
    assert "Usage: octoscale" in answer.err


def test_the_installed_command_answers() -> None:
    command = [sys.executable, "-m", "octoscale.cli"]
    answer = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, f"{octoscale.__version__}\n")

    answer = subprocess.run([*command, "inspect", "absent"], capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: absent is not a packed data set")
    assert "Traceback" not in answer.stderr


# What the user can mend.


@pytest.mark.parametrize("command", ["train", "evaluate", "noise", "config show"])
def test_a_configuration_that_does_not_exist_is_named(call: Octoscale, command: str) -> None:
    refused(call(*command.split(), "absent.yaml"), "cannot read the configuration absent.yaml: No such file")


def test_a_source_that_does_not_exist_is_named(call: Octoscale, tmp_path: Path) -> None:
    refused(
        call("pack", tmp_path / "absent", tmp_path / "out"), f"there is no folder {tmp_path / 'absent'}",
        "expected SOURCE/IDENTITY/IMAGE.jpg",
    )  # fmt: skip


def test_an_empty_source_is_named(call: Octoscale, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    refused(call("pack", tmp_path / "empty", tmp_path / "out"), f"the folder {tmp_path / 'empty'} is empty", "expected")


def faces(folder: Path, counts: dict[str, int]) -> Path:
    for number, (key, count) in enumerate(counts.items()):
        (folder / key).mkdir(parents=True)
        for image in range(count):
            Image.new("RGB", (32, 32), (20 * number, 30 * image, 99)).save(folder / key / f"{image}.jpg")
    return folder


def test_an_identity_with_one_image_and_a_corrupt_one_are_reported_and_excluded(
    call: Octoscale, tmp_path: Path
) -> None:
    source = faces(tmp_path / "source", {"ann": 3, "[bob]": 1, "cleo": 3})
    (source / "cleo/1.jpg").write_bytes((source / "cleo/1.jpg").read_bytes()[:200])

    answer = call("pack", source, tmp_path / "out")

    assert answer.code == 0
    assert "excluded identity [bob]: 1 good of 1 images; an identity needs 2\n" in answer.err
    assert "excluded image cleo/1.jpg: " in answer.err
    assert "packed 5 images of 2 identities" in answer.out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [item["name"] for item in report["excluded_identities"]] == ["[bob]"]
    assert [item["name"] for item in report["excluded_images"]] == ["cleo/1.jpg"]


def test_many_exclusions_are_counted(call: Octoscale, tmp_path: Path) -> None:
    source = faces(tmp_path / "source", {"ann": 2} | {f"single{number}": 1 for number in range(8)})

    answer = call("pack", source, tmp_path / "out")

    assert answer.err.count("excluded identity") == 5
    assert f"… and 3 more; all are in {tmp_path / 'out'}/report.json\n" in answer.err


def test_a_data_set_that_is_there_is_not_replaced(call: Octoscale, packed_faces: Path, drawn_faces: Path) -> None:
    refused(call("pack", drawn_faces / "train", packed_faces), packed_faces, "already holds", "--overwrite")


def test_fewer_identities_than_half_a_batch_are_told(call: Octoscale, write: Any) -> None:
    refused(
        call("train", write(), "global_batch_size=50"), "global_batch_size 50 needs 25 identities", "has 24",
        "at most 48",
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_met_in_training_is_named(
    call: Octoscale, write: Any, drawn_faces: Path, tmp_path: Path, workers: int
) -> None:
    pack(str(drawn_faces / "train"), str(tmp_path / "packed"))
    (shard,) = (tmp_path / "packed/shards").iterdir()
    data = bytearray(shard.read_bytes())
    for start in range(600, len(data), 1024):
        data[start] ^= 0xFF
    shard.write_bytes(data)

    answer = call("train", write(data={"url": str(tmp_path / "packed"), "workers": workers}))

    refused(
        answer, "sample ", shard, "cannot be read: its bytes are not those that were packed", "pack the data set again"
    )


def test_a_data_set_that_was_never_packed_is_told_how(call: Octoscale, write: Any, drawn_faces: Path) -> None:
    answer = call("train", write(data={"url": str(drawn_faces)}))

    refused(answer, f"{drawn_faces} is not a packed data set", "octoscale pack SOURCE")


def test_wrong_weights_are_told(call: Octoscale, write: Any, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    refused(
        call("train", write(), f"model.weights={tmp_path / 'other.pt'}"), "other.pt do not fit TinyNet", "missing",
        "check the model's name and embedding_dim",
    )  # fmt: skip

    (tmp_path / "text.pt").write_text("weights")
    refused(call("train", write(), f"model.weights={tmp_path / 'text.pt'}"), "text.pt are not a readable state_dict")
    refused(call("train", write(), "model.weights=absent.pt"), "cannot read weights absent.pt", "No such file")


def test_an_unknown_key_is_told_with_the_nearest(call: Octoscale, write: Any) -> None:
    refused(call("train", write(), "loss.margn=1"), "unknown key loss.margn; did you mean loss.margin?")


def test_an_address_that_cannot_serve_metrics_is_told_before_the_first_step(
    call: Octoscale, write: Any, tmp_path: Path
) -> None:
    answer = call("train", write(), "telemetry.recorders=[prometheus]", "telemetry.metrics_host=192.0.2.1")

    refused(answer, "cannot serve metrics on 192.0.2.1:0", "telemetry.metrics_host")
    assert not (tmp_path / "run/steps").exists()


def test_a_checkpoint_url_that_cannot_be_written_is_told_before_the_first_step(
    call: Octoscale, write: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for url in (tmp_path / "file", "ftpx://server/folder"):
        refused(call("train", write(), f"checkpoint.url={url}"), url)
    assert not (tmp_path / "run/steps").exists()


@pytest.mark.usefixtures("without_s3fs")
def test_a_missing_package_is_named_with_its_brackets(call: Octoscale, write: Any) -> None:
    refused(call("train", write(), "checkpoint.url=s3://bucket/x"), "pip install octoscale[s3]")


def test_another_data_set_or_geometry_is_refused_on_resume(
    call: Octoscale, write: Any, drawn_faces: Path, tmp_path: Path
) -> None:
    config = write()
    assert call("train", config).code == 0
    other = pack(str(drawn_faces / "verify"), str(tmp_path / "other"))
    mine = json.loads(Path(yaml.safe_load(config.read_text())["data"]["url"], "manifest.json").read_text())

    answer = call("train", config, "steps=9", f"data.url={tmp_path / 'other'}")
    refused(answer, f"data fingerprint was {mine['fingerprint']}, is {other.fingerprint}", "`directory` of its own")
    answer = call("train", config, "steps=9", "global_batch_size=8")
    refused(answer, "global_batch_size was 16, is 8", "`directory` of its own")


@pytest.mark.parametrize(
    "given", [["--faces", "f"], ["--pairs", "p"], ["--weights", "w"], ["--faces", "f", "--weights", "w"]], ids=" ".join
)
def test_the_quickstart_wants_all_of_your_own_or_nothing(call: Octoscale, tmp_path: Path, given: list[str]) -> None:
    answer = call("quickstart", "--directory", tmp_path / "new", *given)

    refused(answer, "--faces, --pairs and --weights together")
    assert not (tmp_path / "new").exists()


def test_the_quickstart_names_a_path_that_does_not_exist(call: Octoscale, tmp_path: Path) -> None:
    given = ["--faces", tmp_path, "--pairs", tmp_path / "pairs.txt", "--weights", tmp_path / "w.pt"]

    refused(call("quickstart", "--directory", tmp_path / "new", *given), "no such path", "names it")


def test_the_quickstart_wants_a_directory_of_its_own(call: Octoscale, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")

    refused(call("quickstart", "--directory", tmp_path / "full"), "full is not empty", "another --directory")


def test_outputs_that_cannot_be_written_are_told_before_the_work(
    call: Octoscale, write: Any, drawn_faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    verify = drawn_faces / "verify"
    own = ["--pairs", verify / "pairs.txt", "--images", verify]
    for option, path, text in (
        ("--scores", tmp_path / "file/scores.json", "cannot make the folder"),
        ("--scores", tmp_path, "is a folder; give the name of a file"),
        ("--figures", tmp_path / "file", "cannot make the folder"),
    ):
        refused(call("evaluate", write(), *own, option, path), option, text)


def test_a_message_is_shown_as_it_is_whatever_its_brackets(call: Octoscale) -> None:
    refused(call("inspect", "[red]faces[/x]"), "[red]faces[/x] is not a packed data set")
