"""What a run has left behind is read, and what is no run is refused."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import octoscale.report.runs
from octoscale.errors import OctoscaleError
from octoscale.report.runs import read_run, read_runs, short_names


@pytest.fixture
def copy(trained_run: Path, tmp_path: Path) -> Path:
    """The trained run, to be damaged."""
    return Path(shutil.copytree(trained_run, tmp_path / "copy"))


def test_a_run_is_read_from_its_directory(trained_run: Path) -> None:
    (run,) = read_runs([str(trained_run)])

    assert run.name == "trained"
    assert run.values == yaml.safe_load((trained_run / "config.yaml").read_text())
    # Named after the folder of its pairs.txt.
    assert [one.step for one in run.evaluations["verify"]] == [0, 2, 4]
    assert [line.step for line in run.lines] == [1, 2, 3, 4]
    assert [commit.step for commit in run.commits] == [2, 4]
    assert (run.steps, run.images, run.restarts) == (4, 64, 0)
    assert run.record["versions"].keys() >= {"octoscale", "torch"}
    assert run.goodput is not None
    assert 0 < run.goodput == run.wall_seconds["productive"] / sum(run.wall_seconds.values()) < 1
    assert run.noise is None
    assert run.problems == ()


def test_commits_that_are_elsewhere_are_found(copy: Path, tmp_path: Path) -> None:
    (copy / "checkpoints").rename(tmp_path / "elsewhere")
    values = yaml.safe_load((copy / "config.yaml").read_text())
    values["checkpoint"]["url"] = str(tmp_path / "elsewhere")
    (copy / "config.yaml").write_text(yaml.safe_dump(values))

    assert [commit.step for commit in read_run(str(copy), "run").commits] == [2, 4]


def test_a_run_without_a_commit_has_what_its_journal_says(copy: Path) -> None:
    shutil.rmtree(copy / "checkpoints")

    run = read_run(str(copy), "run")

    assert (run.commits, run.record, run.attempts, run.restarts, run.goodput) == ((), {}, (), None, None)
    assert (run.steps, run.images) == (4, 64)


def test_a_fresh_run_has_nothing_but_its_configuration(copy: Path) -> None:
    for name in ("checkpoints", "steps", "evaluations"):
        shutil.rmtree(copy / name)

    run = read_run(str(copy), "run")

    assert (run.steps, run.images, run.lines, run.evaluations) == (0, 0, (), {})


def test_what_is_damaged_is_told_and_the_rest_is_read(copy: Path) -> None:
    (copy / "evaluations/00000002.json").write_bytes(b"\xff{")
    (copy / "steps/00000004.jsonl").write_text('{"step": 3')
    newest = max((copy / "checkpoints").glob("step-*/manifest.json"))
    newest.write_text("{}")
    (copy / "noise").mkdir()
    (copy / "noise/noise.json").write_text("[]")

    run = read_run(str(copy), "run")

    assert [one.step for one in run.evaluations["verify"]] == [0, 4]
    assert run.lines == ()
    # The commit before it.
    assert run.record["position"]["step"] == 2
    assert [problem.split(" ")[:3] for problem in run.problems] == [
        ["the", "commit", "of"], ["evaluations/00000002.json", "is", "not"], ["the", "journal", "in"],
        ["noise/noise.json", "is", "not"],
    ]  # fmt: skip


def test_the_recorder_tells_of_all_ranks(copy: Path) -> None:
    mean, most = (f"octoscale_job_phase_seconds_{kind}/embed" for kind in ("mean", "max"))
    lines = [json.dumps({"step": step, mean: 0.1 * step, most: 0.2 * step}) for step in (1, 3)]
    (copy / "telemetry").mkdir()
    # The run is being killed in its third line.
    (copy / "telemetry/metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "octosc']))

    assert read_run(str(copy), "run").rank_phases == {"embed": (pytest.approx(0.2), pytest.approx(0.4))}


def test_of_a_long_record_the_last_steps_count(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octoscale.report.runs, "_RECORDED_BYTES", 150)
    line = '{{"octoscale_job_phase_seconds_mean/loss": {0}, "octoscale_job_phase_seconds_max/loss": {0}}}\n'
    (copy / "telemetry").mkdir()
    (copy / "telemetry/metrics.jsonl").write_text("".join(line.format(step) for step in (1, 2, 3, 4)))

    assert read_run(str(copy), "run").rank_phases == {"loss": (4, 4)}


def test_a_kept_benchmark_is_a_data_set(copy: Path) -> None:
    for path in (copy / "evaluations").glob("*.json"):
        values = json.loads(path.read_text()) | {"name": "cplfw"}
        (copy / "benchmarks/cplfw").mkdir(parents=True, exist_ok=True)
        (copy / "benchmarks/cplfw" / path.name).write_text(json.dumps(values))

    assert [one.step for one in read_run(str(copy), "run").evaluations["cplfw"]] == [0, 2, 4]


def test_an_evaluation_of_something_else_is_not_shown_beside_the_newest(copy: Path) -> None:
    first = copy / "evaluations/00000000.json"
    first.write_text(json.dumps(json.loads(first.read_text()) | {"flip": True}))
    (copy / "evaluations/._00000002.json").write_text("of a file manager")

    run = read_run(str(copy), "run")

    assert [one.step for one in run.evaluations["verify"]] == [2, 4]
    assert run.problems == (
        "evaluations/00000000.json is not of the same as evaluations/00000004.json (flip True and False), and left out",
    )


def test_templates_and_galleries_are_left_out(copy: Path) -> None:
    score = {"resolution": None, "rank": {"1": 0.5}, "tpir_at_fpir": {"0.1": None}}
    counts = {"gallery": 5, "distractors": 1, "mated_probes": 3, "non_mated_probes": 0}
    values = {"kind": "identification", "name": "tiny", "step": 4, "protocol": "tinyface", **counts, "flip": False}
    (copy / "benchmarks/tiny").mkdir(parents=True)
    (copy / "benchmarks/tiny/00000004.json").write_text(json.dumps({**values, "scores": [score]}))

    run = read_run(str(copy), "run")

    assert (set(run.evaluations), run.problems) == ({"verify"}, ())


def test_an_evaluation_by_a_published_protocol_has_its_name(copy: Path) -> None:
    for path in (copy / "evaluations").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": "agedb_30"}))

    assert set(read_run(str(copy), "run").evaluations) == {"agedb_30"}


def test_an_evaluation_has_the_name_of_its_data_set(copy: Path) -> None:
    for path in (copy / "evaluations").glob("*.json"):
        values = json.loads(path.read_text()) | {"name": "xqlfw"}
        (copy / "benchmarks/xqlfw").mkdir(parents=True, exist_ok=True)
        (copy / "benchmarks/xqlfw" / path.name).write_text(json.dumps(values))

    assert set(read_run(str(copy), "run").evaluations) == {"verify", "xqlfw"}


@pytest.mark.parametrize("content", ["", "- a list", "a: [", "steps: 4", "\x00"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)

    with pytest.raises(OctoscaleError, match=r"config\.yaml is not"):
        read_run(str(tmp_path), "run")


@pytest.mark.parametrize("place", ["absent", "empty", "file"])
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("steps: 4")

    with pytest.raises(OctoscaleError, match=rf"{place} holds no config\.yaml.*call"):
        read_run(str(tmp_path / place), "run")


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["runs/a"], ["a"]),
        (["."], ["."]),
        (["runs/a/", "s3://bucket/runs/b"], ["a", "b"]),
        (["a/finetuned", "b/finetuned", "c/other"], ["a/finetuned", "b/finetuned", "c/other"]),
        (["finetuned", "b/finetuned"], ["finetuned", "b/finetuned"]),
    ],
)
def test_names_are_as_short_as_they_can_be(targets: list[str], names: list[str]) -> None:
    assert short_names(targets) == names


def test_one_run_given_twice_is_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"runs/a.* is given twice"):
        read_runs(["runs/b", "runs/a", "runs/a/"])


def test_more_runs_than_there_are_colours_are_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"9 runs are too many.*at most 8"):
        read_runs([f"runs/{number}" for number in range(9)])
