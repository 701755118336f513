"""The loss benchmark as a command: what it prints can be believed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/bench/loss.py"
PEERS = ("cdist", "pytorch_metric_learning", "one_matrix")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_peers_agree_and_one_that_needs_too_much_memory_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_metric_learning")
    options = ["--batches", "64", "4096", "--dim", "16", "--rounds", "1", "--memory-limit-gib", "0.1"]

    ran = subprocess.run(
        [sys.executable, SCRIPT, *options, "--png", tmp_path / "loss.png"], capture_output=True, text=True, check=True
    )

    result = json.loads(ran.stdout)
    for peer in PEERS:
        assert result["agreement_fp64"][peer]["loss_difference"] < 1e-12
        assert result["agreement_fp64"][peer]["gradient_difference"] < 1e-9
    small, large = (row["methods"] for row in result["batches"])
    assert {found["status"] for found in small.values()} == {"measured"}
    # One fp32 matrix of all pairs takes 64 MiB, and each of them keeps several.
    assert {peer: large[peer]["status"] for peer in PEERS} == dict.fromkeys(PEERS, "out of memory")
    assert large["octoscale"]["extra_bytes"] < 0.1 * 2**30
    assert large["octoscale"]["over_gemms"]["median"] > 0
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
