"""The figures that headers of configurations give are what the cost model gives."""

import re
from pathlib import Path

import pytest
import scaling_run

ROOT = Path(__file__).parents[3]
SCALE = sorted((ROOT / "configs/scale").glob("*.yaml"))


@pytest.mark.parametrize("path", SCALE, ids=lambda path: path.stem)
def test_a_headers_figures_are_those_of_the_command_it_names(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    header = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
    (command,) = [line for line in header if "scaling_run.py" in line]
    program, *arguments = re.sub(r"^python ", "", command).split()

    scaling_run.main(arguments)

    assert program == "tools/bench/scaling_run.py"
    assert Path(arguments[0]) == path.relative_to(ROOT)
    printed = capsys.readouterr().out.splitlines()
    # To accept another model: write what the command prints into the header.
    first = header.index(command) + 2
    assert header[first : first + len(printed)] == printed


def test_a_run_that_the_model_does_not_know_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SCALE[0].read_text().replace("precision: bf16", "precision: fp32"))

    with pytest.raises(SystemExit):
        scaling_run.main([str(path), "--data", "ms1mv2"])

    assert "not iresnet100 in fp32 with frozen" in capsys.readouterr().err
