"""octoscale evaluate as ranks of torchrun: one result, that of a single process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import octoscale
from octoscale.evaluate.evaluation import Evaluation
from tests.conftest import SmallRun
from tests.distributed.ranks import loopback

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")


def evaluate(launcher: tuple[str, ...], config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "octoscale.cli", "evaluate", str(config), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback()}
    return subprocess.run(command, capture_output=True, text=True, timeout=140, env=environment)


def configuration(small_run: SmallRun, faces: Path, folder: Path, **changes: Any) -> Path:
    verify = faces / "verify"
    pairs = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "bootstrap": 0}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(folder / "run", evaluate={**pairs, **changes})))
    return file


def test_two_ranks_give_the_scores_of_one_process_once(drawn_faces: Path, small_run: SmallRun, tmp_path: Path) -> None:
    config = configuration(small_run, drawn_faces, tmp_path)

    answers = {
        name: evaluate(launcher, config, "--json", "--keep", "--scores", str(tmp_path / f"{name}.json"))
        for name, launcher in (("alone", ()), ("together", TORCHRUN))
    }

    events = {}
    for name, answer in answers.items():
        assert answer.returncode == 0, answer.stderr[-3000:]
        events[name] = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [event["event"] for event in events["together"]].count("scores") == 1
    progress = [event for event in events["together"] if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"]
    alone, together = (Evaluation.from_json((tmp_path / f"{name}.json").read_text()) for name in answers)
    for key, score in alone.scores.items():
        np.testing.assert_allclose(together.scores[key].accuracy, score.accuracy, rtol=0, atol=1e-9)
        assert together.scores[key].area_under_curve == pytest.approx(score.area_under_curve, abs=1e-3)
    assert [path.name for path in (tmp_path / "run/benchmarks").rglob("*.json")] == ["00000000.json"]


def test_a_list_that_is_missing_ends_all_ranks_with_its_error(
    drawn_faces: Path, small_run: SmallRun, tmp_path: Path
) -> None:
    config = configuration(small_run, drawn_faces, tmp_path, pairs=str(tmp_path / "absent.txt"))

    answer = evaluate(TORCHRUN, config)

    assert answer.returncode != 0
    assert "absent.txt" in answer.stderr
    # The one traceback is torchrun's own.
    assert str(Path(octoscale.__file__).parent) not in answer.stderr
