"""The commands ``reproduce``, where nothing is left to run."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from octoscale.config import load_config
from octoscale.reproduce import process
from octoscale.reproduce.cells import before_and_after_cell, figure4_cells
from tests.unit.commands import Octoscale, refused
from tests.unit.reproduce.conftest import Finish, base_values, finish

__all__ = ["finish"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(base_values()))))
    return path


def test_a_dry_run_lists_the_runs_and_writes_nothing(call: Octoscale, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    answer = call(
        "reproduce",
        "table4",
        config,
        "loss.margin=10",
        "--margin",
        "cosine=0.2",
        "--directory",
        folder,
        "--dry-run",
        "--json",
    )

    assert answer.code == 0, answer
    told = json.loads(answer.out)
    assert (told["event"], told["what"], len(told["cells"])) == ("cells", "table4", 19)
    assert told["cells"][-1] == {
        "name": "cosine", "directory": f"{folder}/cosine", "status": "missing",
        "settings": {"loss.terms": ["hhh", "hll", "lhh", "lll"], "loss.metric": "cosine", "loss.normalize": False,
                     "loss.margin": 0.2},
    }  # fmt: skip
    assert not folder.exists()

    shown = call("reproduce", "table4", config, "--directory", folder, "--dry-run").out
    assert "table4: 19 runs" in shown
    assert "euclidean_squared-normalized │ missing" in shown


def test_finished_runs_are_drawn_and_named(call: Octoscale, config: Path, tmp_path: Path, finish: Finish) -> None:
    folder = tmp_path / "sweep"
    for cell in figure4_cells(load_config(config), str(folder), [1.0, 25.0], [64]):
        finish(cell, 0.9)
    options = ["--margin", "1", "--margin", "25", "--batch-size", "64", "--directory", folder]

    answer = call("reproduce", "figure4", config, *options)

    assert answer.code == 0, answer
    assert "batch of 64" in answer.out
    assert f"wrote {folder}/figure4.png" in answer.out
    assert (folder / "figure4.png").stat().st_size > 10_000
    told = [json.loads(line) for line in call("reproduce", "figure4", config, *options, "--json").out.splitlines()]
    assert told[-1]["event"] == "reproduced"
    assert {cell["status"] for cell in told[-1]["cells"]} == {"finished"}
    assert told[-1]["files"] == [f"{folder}/figure4.{end}" for end in ("png", "md", "csv")]


def test_figures_2_and_3_share_their_run(call: Octoscale, config: Path, tmp_path: Path, finish: Finish) -> None:
    folder = tmp_path / "sweep"
    finish(before_and_after_cell(load_config(config), str(folder)), 0.9)
    for figure in ("figure2", "figure3"):
        answer = call("reproduce", figure, config, "--directory", folder, "--quiet")
        assert (answer.code, answer.err) == (0, "")
        assert (folder / f"{figure}.png").exists()


def test_a_finished_run_without_its_start_is_no_figure(
    call: Octoscale, config: Path, tmp_path: Path, finish: Finish
) -> None:
    cell = before_and_after_cell(load_config(config), str(tmp_path))
    finish(cell, 0.9)
    Path(cell.config.directory, "evaluations/00000000.json").unlink()
    for figure in ("figure2", "figure3"):
        refused(
            call("reproduce", figure, config, "--directory", tmp_path),
            "nothing to draw: octuplet has finished, but without evaluations/00000000.json",
        )
        assert not (tmp_path / f"{figure}.png").exists()


def test_what_cannot_be_is_refused(call: Octoscale, config: Path, tmp_path: Path, finish: Finish) -> None:
    refused(call("reproduce", "table4", config, "--margin", "0.3"), "--margin takes METRIC=MARGIN", "'0.3'")
    refused(call("reproduce", "figure3", config, "--installed"), "belong to --address")
    refused(call("reproduce", "figure3", config, "evaluate=null"), "evaluates nothing")
    finish(before_and_after_cell(load_config(config, ["seed=5"]), str(tmp_path)), 0.9)
    refused(call("reproduce", "figure3", config, "--directory", tmp_path), "seed was 5, is 0", "another --directory")


def test_runs_at_a_time_share_the_cores(
    call: Octoscale, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "threads"
    threads = "os.environ.get('OMP_NUM_THREADS', 'all')"
    program = f"import os; open({str(told)!r}, 'a').write({threads} + ' '); raise SystemExit(1)"
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-c", program])
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = ["--margin", "1", "--margin", "2", "--batch-size", "64", "--directory", tmp_path / "sweep"]

    assert call("reproduce", "figure4", config, *options).code == 1
    assert call("reproduce", "figure4", config, *options, "--parallel", "3").code == 1
    assert call("reproduce", "figure4", config, *options, "--parallel", "2").code == 1

    # What is set already stays, as by the command before.
    assert told.read_text().split() == ["all", "all", "4", "4", "4", "4"]
