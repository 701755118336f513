"""The Dockerfile's steps, without Docker: in a temporary folder, with the files that .dockerignore leaves.

Two steps change the machine itself and are left out: `apt-get`, which the first step skips by itself where there is a
Python, and `useradd`. The base image is this machine.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import octoscale

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    instruction: str
    text: str


def steps() -> list[Step]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def context() -> Iterator[Path]:
    """Files that a build gets to see, of those that git would keep: the last pattern that fits a path decides."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if not path.is_file() or relative.parts[0] in (".git", ".venv"):
            continue
        # A pattern that fits a folder fits what is in it.
        names = [relative.as_posix(), *(parent.as_posix() for parent in relative.parents if parent.name)]
        ignored = False
        for pattern in patterns:
            bare = pattern.removeprefix("!").removeprefix("**/")
            candidates = [name.rpartition("/")[2] for name in names] if "**/" in pattern else names
            if any(fnmatch.fnmatchcase(name, bare) and (bare != "*" or "/" not in name) for name in candidates):
                ignored = not pattern.startswith("!")
        if not ignored:
            yield relative


def test_the_build_sees_the_package_and_nothing_that_is_private_or_large() -> None:
    seen = {path.as_posix() for path in context()}

    assert {"pyproject.toml", "README.md", "LICENSE", "octoscale/train.py", "configs/quickstart.yaml"} <= seen
    assert {name.split("/")[0] for name in seen} == {"pyproject.toml", "README.md", "LICENSE", "octoscale", "configs"}
    assert not [name for name in seen if "__pycache__" in name]


def test_the_image_runs_octoscale_as_a_user_who_is_not_root() -> None:
    last = {step.instruction: step.text for step in steps()}

    assert json.loads(last["ENTRYPOINT"]) == ["octoscale"]
    assert last["USER"] == "octoscale"
    assert "RUN useradd --create-home --uid 10001 octoscale" in (ROOT / "Dockerfile").read_text()
    # Nothing listens, and nothing secret is built in.
    assert "EXPOSE" not in last
    assert not [step for step in steps() if re.search(r"TOKEN|SECRET|PASSWORD", step.text)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone with the test: pytest would keep gigabytes of its own."""
    with tempfile.TemporaryDirectory(prefix="octoscale-image-") as name:
        yield Path(name)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_steps_make_an_environment_in_which_octoscale_runs(folder: Path) -> None:
    source, image = folder / "context", folder / "image"
    for path in context():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    # As `docker build --build-arg` sets them: the CPU build of PyTorch, from where pip looks here.
    given = {"TORCH": "2.13.0+cpu", "TORCH_INDEX": "https://pypi.org/simple"}
    # This Python is the base image's; no environment and no checkout is inherited.
    base = Path(sys.base_prefix) / "bin"
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    environment = {**kept, "HOME": str(folder), "PATH": f"{base}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    directory = image
    image.mkdir()
    ran = []

    def inside(path: str) -> str:
        """Absolute paths of the image, under the temporary folder."""
        return re.sub(r"(?<![\w.])/(opt|src|home)(?=[/:\s]|$)", rf"{image}/\1", path)

    for step in steps():
        text = step.text
        if step.instruction == "ARG":
            name, _, default = text.partition("=")
            environment[name] = given.get(name, default)
        elif step.instruction == "ENV":
            for assignment in shlex.split(text):
                name, _, value = assignment.partition("=")
                environment[name] = inside(value.replace("$PATH", environment["PATH"]))
        elif step.instruction == "WORKDIR":
            directory = Path(inside(text))
            directory.mkdir(parents=True, exist_ok=True)
        elif step.instruction == "COPY":
            *names, target = shlex.split(text)
            destination = directory / inside(target)
            for name in names:
                if (source / name).is_dir():
                    shutil.copytree(source / name, destination)
                else:
                    shutil.copy(source / name, destination)
        elif step.instruction == "RUN":
            if text.startswith("useradd"):
                continue
            answer = subprocess.run(
                ["sh", "-c", inside(text)], cwd=directory, env=environment, capture_output=True, text=True
            )
            if "No matching distribution found for torch==" in answer.stderr:
                pytest.skip("pip finds no CPU build of PyTorch here")
            assert answer.returncode == 0, f"{text}\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
            ran.append(text)
        else:
            assert step.instruction in {"FROM", "USER", "ENTRYPOINT", "CMD"}, step
    assert len(ran) == 4, ran

    command = json.loads({step.instruction: step.text for step in steps()}["ENTRYPOINT"])
    for argument, told in (("--version", f"{octoscale.__version__}\n"), ("--help", "submit")):
        # The shell looks the command up on the image's PATH.
        line = shlex.join([*command, argument])
        answer = subprocess.run(["sh", "-c", line], cwd=directory, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        assert told in answer.stdout
    where = subprocess.run(
        ["python", "-c", "import octoscale, ray, deepspeed, s3fs, torch; print(octoscale.__file__, torch.__version__)"],
        cwd=directory, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert where.returncode == 0, where.stderr
    # DeepSpeed has its say before.
    path, version = where.stdout.splitlines()[-1].split()
    assert Path(path).is_relative_to(image / "opt/octoscale")
    assert version == given["TORCH"]
