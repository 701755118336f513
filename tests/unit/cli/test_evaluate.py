"""The commands that evaluate and compare networks and apply them."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from octoscale.distributed.world import World
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.export import embed_folder
from octoscale.evaluate.identification import IdentificationEvaluation
from octoscale.evaluate.templates import TemplateEvaluation
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
    assert float(rows[1]["rate"]) == tables[0]["rows"][0]["rates"][1]
    markdown = call("compare", run, "--markdown").out
    assert f"| {run} | 4 | {100 * tables[0]['rows'][1]['rates'][0]:.2f} (" in markdown
    assert "Cross-resolution accuracy" in call("compare", run).out
    refused(call("compare", run, "--json", "--csv"), "exclude each other")


def test_a_file_is_evaluated_without_settings(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path) -> None:
    verify = drawn_faces / "verify"
    asked = ("--pairs", verify / "pairs.txt", "--images", verify, "--resolution", 7, "--resolution", 32)
    assert call("train", config, "evaluate=null").code == 0
    file = tmp_path / "face.onnx"
    assert call("export", tmp_path / "run", "--onnx", file, "--image-size", 32).code == 0

    of_run, of_file, of_weights = (
        json.loads(call("evaluate", target, *asked, "--json").out.splitlines()[-1])
        for target in (tmp_path / "run", file, tmp_path / "run/weights.pt")
    )

    assert (of_run.pop("step"), of_file.pop("step"), of_weights.pop("step")) == (4, 0, 0)
    assert of_weights == of_run
    # onnxruntime rounds in another way, so that a pair at the threshold may fall on its other side.
    areas = [[score["area_under_curve"] for score in found["scores"]] for found in (of_file, of_run)]
    assert areas[0] == pytest.approx(areas[1], abs=0.02)
    refused(call("evaluate", file), "face.onnx configures no evaluation; give --pairs and --images")
    refused(call("evaluate", file, *asked, "--keep"), "--keep keeps the scores in a run, and", "face.onnx is a file")
    refused(call("evaluate", file, *asked, "seed=3"), "seed=3 is of a run or a configuration")
    refused(call("evaluate", file, *asked, "--best"), "--best is of a run")


def test_what_would_stand_for_other_evaluations_is_not_kept(call: Octoscale, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused(call("evaluate", config, "--resolution", 14, "--keep"), "lfw is what the run's own evaluations are called")
    refused(call("evaluate", config, "--benchmark", "table", "--flip", "--keep"), "as it is configured: leave out")
    assert not run.exists()
    assert call("train", config).code == 0

    other = call("evaluate", run, "evaluate.resolutions=[14]", "--keep")
    table = ["--protocol", "csv", "--pairs", tmp_path / "pairs.csv", "--keep"]

    refused(other, "00000004.json is another evaluation of lfw (resolutions [7, 32], not [14]): give it a name of its")
    refused(call("evaluate", run, "--flip", "--keep"), "not as configured")
    assert not (run / "benchmarks").exists()
    assert call("evaluate", run, "--keep").code == 0
    assert call("evaluate", run, *table).code == 0
    refused(call("evaluate", run, *table, "--flip"), "another evaluation of csv (flip False, not True)")


def test_lfw_at_sizes_of_its_own_leaves_the_other_tables_as_they_are(
    call: Octoscale, config: Path, tmp_path: Path
) -> None:
    """The way to the paper's table 3 in docs/evaluation.md."""
    values = yaml.safe_load(config.read_text())
    sizes = {**values["evaluate"]["benchmarks"]["lfw"], "resolutions": [8, 12, 32]}
    assert call("train", config).code == 0
    run = tmp_path / "run"
    for target in (run / "config.yaml", run):
        block = f"evaluate.benchmarks={json.dumps({'lfw_sizes': sizes})}"
        answer = call("evaluate", target, block, "--benchmark", "lfw_sizes", "--keep")
        assert answer.code == 0, answer

    found = json.loads(call("compare", run, "--json").out)

    assert [(table["title"], table["columns"]) for table in found["tables"]] == [
        ("Cross-resolution accuracy, % (lfw)", ["7 px", "32 px", "mean"]),
        ("Same resolution accuracy, % (lfw)", ["7 px", "32 px", "mean"]),
        ("Cross-resolution accuracy, % (lfw_sizes)", ["8 px", "12 px", "32 px", "mean"]),
        ("Same resolution accuracy, % (lfw_sizes)", ["8 px", "12 px", "32 px", "mean"]),
    ]
    assert all([row["step"] for row in table["rows"]] == [0, 4] for table in found["tables"])
    assert found["left_out"] == []


def test_what_is_in_no_table_is_told(call: Octoscale, config: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    assert call("evaluate", config, "--resolution", 7, "--scores", scores).code == 0
    assert call("evaluate", config, "--benchmark", "all", "--keep").code == 0

    answer = call("compare", scores, tmp_path / "run", "--csv")

    assert answer.code == 0, answer
    assert "left out: table: no evaluation of it in " in answer.err
    assert f"left out: 32 px of lfw: lfw of {scores} (step 0) lacks it" in answer.err
    assert "left out" not in answer.out


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


@pytest.fixture
def sets(drawn_faces: Path, tmp_path: Path) -> dict[str, Any]:
    """The first image of each face in a gallery, the others probes; and a template for each, of one medium each."""
    faces = sorted(path.relative_to(drawn_faces / "verify") for path in (drawn_faces / "verify").rglob("*.jpg"))
    roles = tmp_path / "roles.csv"
    people = {path: str(path.parent) for path in faces}
    seen: set[str] = set()
    lines = []
    for path, person in people.items():
        lines.append(f"{path},{person},{'probe' if person in seen else 'gallery'}\n")
        seen.add(person)
    roles.write_text("".join(lines))
    (tmp_path / "ijbc_face_tid_mid.txt").write_text(
        "".join(f"{path} {1 + list(seen).index(person)} {row}\n" for row, (path, person) in enumerate(people.items()))
    )
    (tmp_path / "ijbc_template_pair_label.txt").write_text("1 1 1\n2 2 1\n1 2 0\n2 3 0\n")
    images = str(drawn_faces / "verify")
    return {
        "people": {"protocol": "identification", "pairs": str(roles), "images": images},
        "templates": {"protocol": "ijbc", "pairs": str(tmp_path), "images": images, "resolutions": [7, 32]},
    }


def test_galleries_and_templates_are_evaluated_too(
    call: Octoscale, config: Path, sets: dict[str, Any], tmp_path: Path
) -> None:
    def given(name: str) -> list[str]:
        return [part for key in ("protocol", "pairs", "images") for part in (f"--{key}", sets[name][key])]

    gallery, templates, scores = given("people"), given("templates"), tmp_path / "out.json"

    answer = call("evaluate", config, *gallery, "--resolution", 7, "--scores", scores)

    assert answer.code == 0, answer
    assert "40 probes with a mate, 0 without" in " ".join(answer.out.split())
    found = IdentificationEvaluation.from_json(scores.read_text())
    assert (found.gallery, found.mated_probes, list(found.scores)) == (20, 40, [7])
    assert 0 <= found.scores[7].rank[1] <= found.scores[7].rank[20] <= 1

    answer = call("evaluate", config, *templates, "--scores", scores, "--keep", "--figures", tmp_path)
    assert answer.code == 0, answer
    verified = TemplateEvaluation.from_json(scores.read_text())
    assert (verified.templates, verified.images, list(verified.scores)) == (20, 60, [None])
    assert verified.scores[None].area_under_curve == 1.0
    assert (tmp_path / "roc.png").is_file()
    kept = (tmp_path / "run/benchmarks/ijbc/00000000.json").read_text()
    assert TemplateEvaluation.from_json(kept) == verified
    refused(call("evaluate", config, *templates, "--align"), "5pts_score.txt")
    refused(call("evaluate", config, *templates[:4]), "takes --pairs")
    refused(call("evaluate", config, *gallery, "--figures", tmp_path), "identification has no ROC")
    refused(call("evaluate", config, "--align"), "--align is for ijbb and ijbc, and lfw is lfw")


def test_benchmarks_of_every_kind_are_evaluated_kept_and_compared(
    call: Octoscale, config: Path, sets: dict[str, Any], tmp_path: Path
) -> None:
    values = yaml.safe_load(config.read_text())
    values["evaluate"] |= {
        "resolutions": [7],
        "benchmarks": {"table": values["evaluate"]["benchmarks"]["table"], **sets},
    }
    config.write_text(yaml.safe_dump(values, sort_keys=False))

    answer = call(
        "evaluate", config, "--benchmark", "all", "--keep", "--scores", tmp_path / "all.json", "--figures", tmp_path,
        "--json",
    )  # fmt: skip

    assert answer.code == 0, answer
    events = [json.loads(line) for line in answer.out.splitlines()]
    found = [event for event in events if event["event"] == "scores"]
    kinds = {"table": "pairs", "people": "identification", "templates": "templates"}
    assert {event["name"]: event["kind"] for event in found} == kinds
    assert list(json.loads((tmp_path / "all.json").read_text())) == list(kinds)
    # A gallery has no ROC.
    assert {path.name for path in tmp_path.glob("*.png")} == {"roc_table.png", "roc_templates.png"}
    assert {path.parent.name for path in (tmp_path / "run/benchmarks").glob("*/00000000.json")} == set(kinds)

    tables = json.loads(call("compare", tmp_path / "run", "--json").out)["tables"]
    titles = [table["title"] for table in tables[2:]]
    assert titles == ["Templates, % (templates, 7 px)", "Templates, % (templates, 32 px)", "Identification, % (people)"]
    assert tables[-1]["columns"] == ["rank 1", "rank 5", "rank 10", "rank 20"]
    texts = {option: call("compare", tmp_path / "run", *option).out for option in ((), ("--markdown",), ("--csv",))}
    assert all(title in text for title in titles for text in texts.values())
    rows = list(csv.DictReader(io.StringIO(texts["--csv",])))
    assert float(rows[-1]["rate"]) == tables[-1]["rows"][0]["rates"][-1] == 1.0
    refused(call("evaluate", config, "--benchmark", "all", "--align"), "and table is csv")
    refused(call("evaluate", config, "--benchmark", "people", "--resolution", 99), "resolutions has 99 px", "32 px")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "csv", "pairs": "typo.csv"}, "typo.csv"),
        ({"protocol": "csv", "images": "nowhere"}, "nowhere has no "),
        ({"protocol": "bin", "images": None}, "is not a pack of images and labels"),
        ({"protocol": "csv", "resolutions": [7, 99]}, "evaluate.resolutions has 99 px, but the images have 32 px"),
        ({"protocol": "identification", "pairs": "typo.csv"}, "typo.csv"),
    ],
)
def test_a_mistake_in_the_last_set_is_found_before_the_first_is_evaluated(
    call: Octoscale, config: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    values = yaml.safe_load(config.read_text())
    benchmarks = values["evaluate"]["benchmarks"]
    benchmarks["wrong"] = benchmarks["table"] | change
    config.write_text(yaml.safe_dump(values, sort_keys=False))

    refused(call("evaluate", config, "--benchmark", "all", "--keep"), "wrong: ", message)

    assert not (tmp_path / "run/benchmarks").exists()


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
    (tmp_path / "folder.npz").mkdir()
    refused(call("embed", drawn_faces / "verify", tmp_path / "folder.npz", *own), "folder.npz is a folder")


def test_every_image_is_embedded_even_if_another_differs_in_its_suffix_alone(
    call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path
) -> None:
    first, second = sorted((drawn_faces / "verify").rglob("*.jpg"))[:2]
    folder = tmp_path / "crops"
    folder.mkdir()
    shutil.copy(first, folder / "x.jpg")
    Image.open(second).save(folder / "x.png")

    call("embed", folder, tmp_path / "out.npz", "--network", config)

    found = np.load(tmp_path / "out.npz")
    assert found["names"].tolist() == ["x.jpg", "x.png"]
    assert not np.array_equal(*found["embeddings"])


def test_two_images_are_verified(call: Octoscale, config: Path, drawn_faces: Path, tmp_path: Path) -> None:
    first, second = sorted((drawn_faces / "verify").rglob("*.jpg"))[:2]
    network = ["--network", config]

    answer = call("verify", first, second, *network)
    assert "decision           none" in answer.out
    assert "give --threshold" in answer.out

    found = json.loads(call("verify", first, first, *network, "--threshold", "0.9", "--json").out)
    expected = {"similarity": pytest.approx(1.0), "threshold": 0.9, "same": True, "step": 0}
    assert found == {"event": "verified", **expected}
    assert "decision           different persons" in call("verify", first, second, *network, "--threshold", "1").out
    for threshold in ("1.24", "nan"):
        refused(call("verify", first, second, *network, "--threshold", threshold), f"--threshold is {threshold}")
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
