"""The commands that evaluate and compare networks and apply them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml

from octoscale.distributed.world import World
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.export import embed_folder
from octoscale.trained import load_trained
from tests.conftest import SmallRun
from tests.unit.commands import Octoscale, refused


@pytest.fixture
def config(small_run: SmallRun, drawn_faces: Path, tmp_path: Path) -> Path:
    """A run of four steps that is evaluated at its start and end, with two benchmarks."""
    verify = drawn_faces / "verify"
    own = {"pairs": str(verify / "pairs.txt"), "images": str(verify)}
    lines = (verify / "pairs.txt").read_text().splitlines()[1:]
    table = tmp_path / "pairs.csv"
    table.write_text("".join(row(line) for line in lines))
    benchmarks = {"lfw": own, "table": {"protocol": "csv", "pairs": str(table), "images": str(verify)}}
    evaluate = {**own, "resolutions": [7, 32], "benchmarks": benchmarks}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(small_run(tmp_path / "run", evaluate=evaluate)))
    return path


def row(line: str) -> str:
    match line.split("\t"):
        case [name, left, right]:
            return f"{name}/{name}_{int(left):04d}.jpg,{name}/{name}_{int(right):04d}.jpg,1\n"
        case [name, left, other, right]:
            return f"{name}/{name}_{int(left):04d}.jpg,{other}/{other}_{int(right):04d}.jpg,0\n"
    raise AssertionError(line)


def test_benchmarks_are_evaluated_kept_and_compared(call: Octoscale, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for target in (config, None):
        if target is None:
            assert call("train", config).code == 0
        answer = call("evaluate", target or run, "--benchmark", "all", "--keep", "--scores", tmp_path / "all.json")
        assert answer.code == 0, answer
    kept = Evaluation.from_json((run / "benchmarks/table/00000004.json").read_text())
    assert (kept.name, kept.protocol, kept.step) == ("table", "csv", 4)
    assert json.loads((tmp_path / "all.json").read_text())["table"] == json.loads(kept.to_json())
    # The same pairs in another form: the folds differ, the ROC does not.
    made = Evaluation.from_json((run / "evaluations/00000004.json").read_text())
    assert kept.scores["cross", 7].area_under_curve == made.scores["cross", 7].area_under_curve

    tables = json.loads(call("compare", run, "--json").out)["tables"]
    assert [table["columns"] for table in tables] == [
        ["LFW", "7 px", "32 px", "mean"], ["7 px", "32 px", "mean"], ["7 px", "32 px", "mean"],
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(call("compare", run, "--csv").out)))
    assert len(rows) == 2 * (4 + 3 + 3)
    assert float(rows[1]["accuracy"]) == tables[0]["rows"][0]["accuracies"][1]
    markdown = call("compare", run, "--markdown").out
    assert f"| {run} | 4 | {100 * tables[0]['rows'][1]['accuracies'][0]:.2f} (" in markdown
    assert "Cross-resolution accuracy" in call("compare", run).out
    refused(call("compare", run, "--json", "--csv"), "exclude each other")


def test_overrides_win_over_what_the_run_has_written_down(call: Octoscale, config: Path, tmp_path: Path) -> None:
    """As for a data set that its configuration does not name."""
    assert call("train", config).code == 0
    named = yaml.safe_load(config.read_text())["evaluate"]["benchmarks"]["table"]
    answer = call(
        "evaluate", tmp_path / "run", f"evaluate.benchmarks={json.dumps({'new': named})}", "evaluate.resolutions=[7]",
        "--benchmark", "new", "--keep",
    )  # fmt: skip
    assert answer.code == 0, answer
    kept = Evaluation.from_json((tmp_path / "run/benchmarks/new/00000004.json").read_text())
    assert (kept.protocol, kept.resolutions) == ("csv", (7,))
    refused(call("evaluate", tmp_path / "run", "model.name=r50"), "would change the network")


def test_pairs_may_be_given_in_another_form(call: Octoscale, config: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"

    answer = call(
        "evaluate", config, "--protocol", "csv", "--pairs", tmp_path / "pairs.csv", "--resolution", 14, "--flip",
        "--scores", scores,
    )  # fmt: skip

    assert answer.code == 0, answer
    found = Evaluation.from_json(scores.read_text())
    assert (found.protocol, found.flip, found.resolutions) == ("csv", True, (14,))


def test_galleries_and_templates_are_evaluated_too(
    call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    faces = sorted(path.relative_to(drawn_faces / "verify") for path in (drawn_faces / "verify").rglob("*.jpg"))
    roles = tmp_path / "roles.csv"
    people = {path: str(path.parent) for path in faces}
    seen: set[str] = set()
    lines = []
    for path, person in people.items():
        lines.append(f"{path},{person},{'probe' if person in seen else 'gallery'}\n")
        seen.add(person)
    roles.write_text("".join(lines))
    common: list[Any] = ["--images", drawn_faces / "verify", "--scores", tmp_path / "out.json"]

    answer = call("evaluate", config, "--protocol", "identification", "--pairs", roles, "--resolution", 7, *common)

    assert answer.code == 0, answer
    (found,) = json.loads((tmp_path / "out.json").read_text())
    assert (found["gallery"], found["mated_probes"], found["resolution"]) == (20, 40, 7)
    assert 0 <= found["rank"]["1"] <= found["rank"]["20"] <= 1

    (tmp_path / "ijbc_face_tid_mid.txt").write_text(
        "".join(f"{path} {1 + list(seen).index(person)} {row}\n" for row, (path, person) in enumerate(people.items()))
    )
    (tmp_path / "ijbc_template_pair_label.txt").write_text("1 1 1\n2 2 1\n1 2 0\n2 3 0\n")
    answer = call("evaluate", config, "--protocol", "ijbc", "--pairs", tmp_path, *common)
    assert answer.code == 0, answer
    (found,) = json.loads((tmp_path / "out.json").read_text())
    assert (found["templates"], found["images"], found["resolution"]) == (20, 60, None)
    assert found["area_under_curve"] == 1.0
    refused(call("evaluate", config, "--protocol", "ijbc", "--pairs", tmp_path, *common, "--align"), "5pts_score.txt")
    refused(call("evaluate", config, "--protocol", "ijbc", "--pairs", tmp_path), "takes --pairs")
    refused(call("evaluate", config, "--protocol", "ijbc", "--pairs", tmp_path, *common, "--keep"), "leave them out")
    refused(call("evaluate", config, "--align"), "--align is for --protocol ijbb and ijbc")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_folder_is_embedded(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out/faces.{suffix}"

    answer = call("embed", drawn_faces / "verify", output, "--network", config, "--resolution", 7, "--flip")

    assert f"wrote 60 embeddings of 16 numbers to {output}\n" in answer.out
    expected, vectors = embed_folder(
        load_trained(str(config)).network, str(drawn_faces / "verify"), World(), resolution=7, flip=True
    )
    if suffix == "npz":
        found = np.load(output)
        names, embeddings = found["names"].tolist(), found["embeddings"]
    else:
        table = pyarrow.parquet.read_table(output)
        names, embeddings = table["name"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)
    assert names == expected
    np.testing.assert_array_equal(embeddings, vectors)


def test_embedding_refuses_what_it_cannot_do(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path) -> None:
    own = ["--network", config]
    refused(call("embed", drawn_faces / "verify", tmp_path / "x.csv", *own), "ends in .npz or .parquet")
    (tmp_path / "empty").mkdir()
    refused(call("embed", tmp_path / "empty", tmp_path / "x.npz", *own), "holds no images")
    refused(
        call("embed", drawn_faces / "verify", tmp_path / "x.npz", *own, "--resolution", 99), "the images have 32 px"
    )


def test_two_images_are_verified(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path) -> None:
    first, second = sorted((drawn_faces / "verify").rglob("*.jpg"))[:2]
    network = ["--network", config]

    answer = call("verify", first, second, *network)
    assert "decision           none" in answer.out
    assert "give --threshold" in answer.out

    found = json.loads(call("verify", first, first, *network, "--threshold", "0.9", "--json").out)
    expected = {"similarity": pytest.approx(1.0), "threshold": 0.9, "same": True, "step": 0}
    assert found == {"event": "verified", **expected}
    assert "decision           different persons" in call("verify", first, second, *network, "--threshold", "1.1").out
    refused(call("verify", first, tmp_path / "absent.jpg", *network), "cannot read")
    refused(call("verify", first, config, *network), "cannot decode", config)


def test_a_run_decides_by_the_threshold_of_its_evaluation(
    call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    assert call("train", config).code == 0
    run = tmp_path / "run"
    evaluation = Evaluation.from_json((run / "evaluations/00000004.json").read_text())
    threshold = evaluation.scores["cross", 32].threshold
    assert threshold is not None
    first = min((drawn_faces / "verify").rglob("*.jpg"))

    found = json.loads(call("verify", first, first, "--network", run, "--json").out)

    assert found["threshold"] == 1 - threshold
    assert found["same"]
    assert "(lfw, 32 px: " in call("verify", first, first, "--network", run).out
