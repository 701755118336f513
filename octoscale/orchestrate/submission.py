"""What is sent to a cluster's job server: one value, which a dry run shows and a submission sends."""

import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import octoscale
from octoscale.config import Config
from octoscale.errors import OctoscaleError
from octoscale.orchestrate.job_environment import chosen_variables, looks_secret, secret_names
from octoscale.resilience import possible_world_sizes

# Where a job's metadata says which run it is an attempt of.
RUN_KEY, ATTEMPT_KEY = "octoscale_run", "octoscale_attempt"
_CONFIG_FILE = "run.yaml"
# Ray kills a stopped job after 3 s; this leaves it the time to end what it is writing.
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Submission:
    """One attempt of a run, as it is sent.

    Attributes:
        package: a zip: the job's working directory on every node.
        request: the job server's request; Ray fills nothing in.
    """

    package: bytes
    request: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.request["submission_id"])

    def to_json(self) -> str:
        """`document`, to be read."""
        return json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n"

    def document(self) -> dict[str, Any]:
        """The request, and which files the package holds."""
        with zipfile.ZipFile(io.BytesIO(self.package)) as archive:
            files = {
                name: {"bytes": len(content := archive.read(name)), "sha256": hashlib.sha256(content).hexdigest()}
                for name in archive.namelist()
            }
            config = archive.read(_CONFIG_FILE).decode()
        return {"request": self.request, "package": {"bytes": len(self.package), "files": files}, "config": config}


@dataclass(frozen=True)
class JobPlan:
    """A run that is to be submitted, whatever its attempt. Make it with `plan_job`."""

    config: Config
    run: str
    env: dict[str, str]
    secrets: tuple[str, ...]
    package: bytes

    def attempt(self, number: int) -> Submission:
        """What is sent for the attempt of this number, counted from 1."""
        return Submission(
            package=self.package,
            request={
                "entrypoint": self._entrypoint(),
                "submission_id": f"{self.run}-{number}",
                "runtime_env": {
                    "working_dir": _package_uri(self.package),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS), **self.env},
                },
                "metadata": {
                    RUN_KEY: self.run,
                    ATTEMPT_KEY: str(number),
                    "directory": self.config.directory,
                    "workers": self.config.resilience.workers,
                    "octoscale_version": octoscale.__version__,
                },
            },
        )

    def _entrypoint(self) -> str:
        # The shell stops here, with the name and without a value, where the node lacks one.
        checks = [f': "${{{name}:?is not in the cluster\'s environment}}"' for name in self.secrets]
        launch = ["python", "-m", "octoscale.cli", "launch", _CONFIG_FILE, "--address", "auto"]
        return " && ".join([*checks, f"exec {shlex.join(launch)}"])


def plan_job(
    config: Config,
    *,
    env: Sequence[str] = (),
    secrets: Sequence[str] = (),
    allow_secret_env: bool = False,
    installed: bool = False,
) -> JobPlan:
    """Check everything that can be checked before a cluster is asked.

    Args:
        config: the run; every path in it is a URL, or absolute and seen by every node.
        env: see `chosen_variables`.
        secrets: see `secret_names`.
        allow_secret_env: send variables that look like secrets.
        installed: use the octoscale that the nodes have, instead of sending this one.

    Raises:
        OctoscaleError: the batch does not divide, a path that other machines cannot see, or a variable that
            must not be sent.
    """
    possible_world_sizes(config.global_batch_size, config.resilience.world)
    _check_paths(config)
    variables = chosen_variables(env, allow_secrets=allow_secret_env)
    names = secret_names(secrets, variables)
    text = config.to_yaml()
    for line in text.splitlines():
        if looks_secret("", line):
            raise OctoscaleError(
                f"the configuration's {line.strip().partition(':')[0]} holds what looks like a secret; "
                "give it to the cluster's environment, and its name with --secret"
            )
    return JobPlan(config, run_name(config), variables, names, _package(text, installed))


def run_name(config: Config) -> str:
    """A name of the run, the same for the same directory: its last part, and a few digits that tell it from others."""
    directory = config.directory.rstrip("/")
    last = re.sub(r"[^A-Za-z0-9_.]+", "-", directory.rpartition("/")[2]).strip("-.") or "run"
    return f"{last[:40]}-{hashlib.sha256(directory.encode()).hexdigest()[:6]}"


def shared_paths(config: Config) -> dict[str, str]:
    """Settings that are paths, not URLs: every node must see the same files there."""
    # The cache is each node's own.
    return {key: path for key, path in config.local_paths().items() if key != "data.cache_dir"}


def _check_paths(config: Config) -> None:
    for key, path in shared_paths(config).items():
        if not Path(path).is_absolute():
            raise OctoscaleError(
                f"{key} is {path!r}, a path on this machine that the cluster does not see; give a URL (s3://…), or an "
                "absolute path that every node sees"
            )


def _package(config: str, installed: bool) -> bytes:
    """A zip of the configuration and, unless the nodes have it, this package. Same content, same bytes."""
    files = {_CONFIG_FILE: config.encode()}
    if not installed:
        root = Path(octoscale.__file__).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{root.name}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # The format's first date.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def _package_uri(package: bytes) -> str:
    """Ray's name of an uploaded zip. Were it another one, a submission would be refused, not differ."""
    return f"gcs://_ray_pkg_{hashlib.sha1(package, usedforsecurity=False).hexdigest()}.zip"
