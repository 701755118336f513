"""Which data sets an evaluation is on: the configured one, further ones by name, or one given by hand."""

from collections.abc import Sequence

from pydantic import ValidationError

from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig

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
) -> dict[str, EvaluateConfig]:
    """The evaluations to make, by the names of their data sets.

    Args:
        configured: a run's `evaluate` block.
        source: whose block it is, for messages.
        benchmarks: names among the block's `benchmarks`; ``all``: every one. None: the block's own pairs.
        protocol, pairs, images: another data set; what is not given is the block's.
        flip, resolutions: instead of the block's.

    Raises:
        OctoscaleError: no such benchmark, nothing to evaluate, or settings that do not fit.
    """
    changed: dict[str, object] = {} if flip is None else {"flip": flip}
    if resolutions:
        changed["resolutions"] = sorted(set(resolutions))
    given = {
        key: value for key, value in (("protocol", protocol), ("pairs", pairs), ("images", images)) if value is not None
    }
    if benchmarks:
        known = configured.benchmarks if configured is not None else {}
        names = list(known) if ALL in benchmarks else list(benchmarks)
        for name in names or benchmarks:
            if name not in known:
                raise OctoscaleError(
                    f"{source} has no benchmark {name!r}, only {', '.join(known) or 'none'}; "
                    "add it to evaluate.benchmarks"
                )
        if given:
            raise OctoscaleError(f"--benchmark names its pairs already; leave out --{', --'.join(given)}")
        assert configured is not None
        return {name: _settings(configured.on(known[name]).model_dump() | changed) for name in names}
    own = configured.model_dump() if configured is not None else {}
    if not own and "pairs" not in given:
        raise OctoscaleError(f"{source} configures no evaluation; give --pairs and --images")
    if given.get("protocol") == "bin":
        own.pop("images", None)
    return {given.get("protocol", own.get("protocol", "lfw")): _settings(own | given | changed)}


def _settings(values: dict[str, object]) -> EvaluateConfig:
    try:
        return EvaluateConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'evaluate'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise OctoscaleError(f"this cannot be evaluated: {problems}") from error
