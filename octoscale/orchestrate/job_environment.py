"""Which environment variables a submitted job gets: those that were named, and no secret among them.

Ray keeps a job's variables in its control store, and everyone who may use the cluster may read them there.
"""

import os
import re
from collections.abc import Iterable

from octoscale.errors import OctoscaleError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(
    r"SECRET|PASSW(OR)?D|CREDENTIAL|ACCESS_?KEY|API_?KEY|PRIVATE_?KEY|TOKEN(_|$)|(^|_)(KEY|AUTH|PAT)$", re.IGNORECASE
)
# These hold the path of a file that is on the nodes, not what is in it.
_PATH_NAME = re.compile(r"_(FILE|PATH|DIR)$|^GOOGLE_APPLICATION_CREDENTIALS$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_|\bhf_[A-Za-z0-9]{30,}|\bxox[abp]-|\bsk-(proj-|ant-)?[A-Za-z0-9]{32}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@]*:[^/\s@]+@"  # user:password in a URL
)
# Of the cluster, not of a job: it tells who may use the cluster at all.
_NEVER = frozenset({"RAY_AUTH_TOKEN"})


def chosen_variables(env: Iterable[str], *, allow_secrets: bool = False) -> dict[str, str]:
    """The job's variables.

    Args:
        env: ``NAME`` copies this process's variable, ``NAME=VALUE`` sets one.
        allow_secrets: send what looks like a secret all the same.

    Raises:
        OctoscaleError: a name that is none, that is given twice or is not set here, or what looks like a
            secret. The message never holds a value.
    """
    chosen: dict[str, str] = {}
    for item in env:
        name, given, value = item.partition("=")
        _check_name(name, "--env")
        if name in chosen:
            raise OctoscaleError(f"--env {name} is given twice; give it once")
        if not given:
            if name not in os.environ:
                raise OctoscaleError(f"--env {name}: it is not set here; set it, or give --env {name}=VALUE")
            value = os.environ[name]
        if name in _NEVER:
            raise OctoscaleError(f"--env {name}: the cluster's token is never sent with a job; its nodes have it")
        if not allow_secrets and looks_secret(name, value):
            raise OctoscaleError(
                f"--env {name} looks like a secret, and everyone who may use the cluster could read it; set it in the "
                f"cluster's own environment and give --secret {name}, or send it all the same with --allow-secret-env"
            )
        chosen[name] = value
    return chosen


def secret_names(secrets: Iterable[str], env: Iterable[str]) -> tuple[str, ...]:
    """The names of variables that the cluster's own environment must have; `env` are the names that are sent.

    Raises:
        OctoscaleError: a value beside a name, which is not repeated, or a name that is also sent.
    """
    names = []
    sent = set(env)
    for item in secrets:
        name, given, _ = item.partition("=")
        _check_name(name, "--secret")
        if given:
            raise OctoscaleError(f"--secret {name} takes no value: the cluster's own environment must have it")
        if name in sent:
            raise OctoscaleError(f"{name} is given as --env and as --secret; give it once")
        names.append(name)
    return tuple(dict.fromkeys(names))


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable of this name and value is better not shown to others."""
    by_name = _SECRET_NAME.search(name) is not None and _PATH_NAME.search(name) is None
    return by_name or _SECRET_VALUE.search(value) is not None


def _check_name(name: str, option: str) -> None:
    if not _NAME.fullmatch(name):
        # What stands there may be a value.
        raise OctoscaleError(f"{option} takes the NAME of a variable: letters, digits and _, not starting with a digit")
