"""Which data sets an evaluation is on: the configured one, further ones by name, or one given by hand."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import (
    GALLERIES,
    PROTOCOLS,
    SHARED,
    TEMPLATES,
    AnyConfig,
    EvaluateConfig,
    GalleryConfig,
    TemplateConfig,
)

ALL = "all"


def chosen(
    configured: EvaluateConfig | None,
    source: str,
    *,
    benchmarks: Sequence[str] = (),
    protocol: str | None = None,
    pairs: str | None = None,
    images: str | None = None,
    flip: bool | None = None,
    resolutions: Sequence[int] = (),
    align: bool = False,
) -> dict[str, AnyConfig]:
    """The evaluations to make, by the names of their data sets.

    Args:
        configured: a run's `evaluate` block.
        source: whose block it is, for messages.
        benchmarks: names among the block's `benchmarks`; ``all``: every one. None: the block's own pairs.
        protocol, pairs, images: another data set; what is not given is the block's, if it is of pairs.
        flip, resolutions: instead of the block's or the data set's.
        align: the loose crops of templates are aligned.

    Raises:
        OctoscaleError: no such benchmark, nothing to evaluate, or settings that do not fit.
    """
    given = {
        key: value for key, value in (("protocol", protocol), ("pairs", pairs), ("images", images)) if value is not None
    }
    if benchmarks:
        known = configured.benchmarks if configured is not None else {}
        names = list(known) if ALL in benchmarks else list(benchmarks)
        for name in benchmarks:
            if name not in known and not (name == ALL and known):
                raise OctoscaleError(
                    f"{source} has no benchmark {name!r}, only {', '.join(known) or 'none'}; "
                    "add it to evaluate.benchmarks"
                )
        if given:
            raise OctoscaleError(f"--benchmark names its pairs already; leave out --{', --'.join(given)}")
        assert configured is not None
        wanted = {name: configured.on(known[name]) for name in names}
    else:
        wanted = {protocol or (configured.protocol if configured else "lfw"): _given(configured, source, given)}
    changed: dict[str, object] = {} if flip is None else {"flip": flip}
    if resolutions:
        changed["resolutions"] = sorted(set(resolutions))
    if align:
        changed["align"] = True
        for name, settings in wanted.items():
            if not isinstance(settings, TemplateConfig):
                raise OctoscaleError(
                    f"--align is for {' and '.join(TEMPLATES)}, and {name} is {settings.protocol}; leave it out, and "
                    "give aligned crops"
                )
    return {name: _settings(type(settings), settings.model_dump() | changed) for name, settings in wanted.items()}


def _given(configured: EvaluateConfig | None, source: str, given: dict[str, str]) -> AnyConfig:
    """The settings for a data set that is given by hand, or for the configured pairs."""
    own = configured.model_dump() if configured is not None else {}
    protocol = given.get("protocol", "lfw")
    if protocol not in PROTOCOLS:
        raise OctoscaleError(f"--protocol {protocol} is not known; give one of {', '.join(PROTOCOLS)}")
    if protocol in (*TEMPLATES, *GALLERIES):
        if "pairs" not in given or "images" not in given:
            raise OctoscaleError(f"--protocol {protocol} takes --pairs, its file or folder, and --images")
        kind = TemplateConfig if protocol in TEMPLATES else GalleryConfig
        shared = {key: own[key] for key in SHARED if key in own and key in kind.model_fields}
        return _settings(kind, shared | given)
    if not own and "pairs" not in given:
        raise OctoscaleError(f"{source} configures no evaluation; give --pairs and --images")
    if protocol == "bin":
        own.pop("images", None)
    if own and given.get("protocol", own["protocol"]) != own["protocol"]:
        # A benchmark of this name, which is not evaluated, is no reason to refuse what is.
        own["benchmarks"].pop(protocol, None)
    return _settings(EvaluateConfig, own | given)


def _settings(kind: type[AnyConfig], values: dict[str, Any]) -> AnyConfig:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'evaluate'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise OctoscaleError(f"this cannot be evaluated: {problems}") from error
