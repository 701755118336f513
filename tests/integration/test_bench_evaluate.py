"""The benchmark of an evaluation as a command."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools/bench/evaluate.py"


def test_it_counts_what_the_network_is_given() -> None:
    options = ["--model", "tiny", "--pairs", "40", "--images", "50"]

    ran = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=True)

    result = json.loads(ran.stdout)
    assert (result["pairs"], result["images"], result["embedded"]) == (40, 50, 250)
    assert result["embedded_once_per_resolution"]
    assert 0 < result["forward_share"] < 1
