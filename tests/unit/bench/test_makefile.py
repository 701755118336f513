"""What `make bench` runs."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_script_of_make_bench_runs_without_arguments(tmp_path: Path) -> None:
    ready = tmp_path / ".ready"
    ready.touch()
    told = subprocess.run(
        ["make", "--dry-run", f"VENV={tmp_path}", f"--old-file={ready}", "bench"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    scripts = [Path(word.rstrip(";")) for word in told.split() if word.startswith("tools/bench/")]
    assert len(scripts) > 10
    asking = [script.name for script in scripts if asks_for_arguments((ROOT / script).read_text())]
    assert not asking


def asks_for_arguments(source: str) -> bool:
    """Whether one of its arguments is positional or required."""
    return "required=True" in source or any(
        line.strip().startswith("parser.add_argument(") and '("-' not in line for line in source.splitlines()
    )
