"""Which runs a table or a figure is made of: configurations in, configurations out, nothing read or written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from octoscale.config import Config, parse_config
from octoscale.errors import OctoscaleError
from octoscale.loss import TERMS as LOSS_TERMS
from octoscale.reproduce.margins import VARIANTS, chosen_margins, margin_of, shown, variant_of

TERMS = tuple(LOSS_TERMS)
# In the order of the paper's table 4, which leaves two of the six pairs out.
TERM_SETS = tuple(terms for count in (4, 1, 2, 3) for terms in combinations(TERMS, count))
# The paper's figure 4.
BATCH_SIZES = (64, 128, 256)
# Of the margin that suits the metric: 1 to 500 where that is 25.
MARGIN_FACTORS = (0.04, 0.2, 0.4, 1.0, 2.0, 4.0, 20.0)


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its directory inside the sweep's.
        settings: what it changes in the configuration that was given, by key.
        config: the run, with a directory of its own.
        benchmarks: its network is evaluated on the pairs of `evaluate.benchmarks` too.
        before: so is the network that it starts from, which is that of all cells.
    """

    name: str
    settings: dict[str, Any]
    config: Config
    benchmarks: bool = False
    before: bool = False

    @property
    def wanted_benchmarks(self) -> tuple[str, ...]:
        evaluate = self.config.evaluate
        return tuple(evaluate.pair_benchmarks) if self.benchmarks and evaluate is not None else ()


@dataclass(frozen=True)
class Study:
    """A part of table 4: rows that are compared with the first of them.

    Attributes:
        rows: (what the row says, the name of its cell); two studies may share a cell.
    """

    title: str
    rows: tuple[tuple[str, str], ...]


def table4_cells(
    base: Config, directory: str, margins: Mapping[str, float]
) -> tuple[tuple[Cell, ...], tuple[Study, ...]]:
    """The runs of table 4, and how its two parts are made of them.

    The terms are studied with the metric of `base`, and the metrics with all terms, so both parts share that run.

    Args:
        margins: by variant (see `margins.VARIANTS`), instead of the configuration's own and the defaults.

    Raises:
        OctoscaleError: the configuration does not fit.
    """
    check_evaluation(base)
    suitable = chosen_margins(base.loss, margins)
    own = variant_of(base.loss)
    # What is the configuration's own already is not named as a change.
    changed = {"loss.margin": suitable[own]} if suitable[own] != base.loss.margin else {}
    cells = [
        _cell(base, directory, "+".join(terms), {"loss.terms": list(terms), **changed},
              benchmarks=True, before=terms == TERMS)
        for terms in TERM_SETS
    ]  # fmt: skip
    whole = cells[0].name
    rows = []
    for variant, (metric, normalize) in VARIANTS.items():
        rows.append((f"{variant}, margin {shown(suitable[variant])}", whole if variant == own else variant))
        if variant != own:
            settings = {
                "loss.terms": list(TERMS), "loss.metric": metric, "loss.normalize": normalize,
                "loss.margin": suitable[variant],
            }  # fmt: skip
            cells.append(_cell(base, directory, variant, settings, benchmarks=True))
    terms_title = f"loss terms ({own}, margin {shown(suitable[own])})"
    studies = (
        Study(terms_title, tuple((" + ".join(terms), "+".join(terms)) for terms in TERM_SETS)),
        Study("metric and normalisation (all terms)", tuple(rows)),
    )
    return tuple(cells), studies


def before_and_after_cell(base: Config, directory: str) -> Cell:
    """The one run of figures 2 and 3: the network before it and after it, on every data set.

    Raises:
        OctoscaleError: the configuration does not fit.
    """
    check_evaluation(base)
    return _cell(base, directory, "octuplet", {}, benchmarks=True, before=True)


def figure4_cells(
    base: Config, directory: str, margins: Sequence[float], batch_sizes: Sequence[int], *, equal_steps: bool = False
) -> tuple[Cell, ...]:
    """The runs of figure 4: each margin with each batch size.

    Args:
        margins: none: `MARGIN_FACTORS` times the margin that suits the configured metric.
        batch_sizes: none: `BATCH_SIZES`.
        equal_steps: every run has the configured steps; else it sees as many images, so that a larger batch has
            fewer steps, warm-up and milestones with them.

    Raises:
        OctoscaleError: a batch size, a margin or the configuration does not fit.
    """
    check_evaluation(base)
    if equal_steps and base.steps is None:
        raise OctoscaleError("--equal-steps takes a run whose length is in steps, and this one's is in epochs")
    suitable = margin_of(base.loss)
    chosen = sorted(set(margins)) or [float(f"{factor * suitable:.3g}") for factor in MARGIN_FACTORS]
    cells: list[Cell] = []
    for batch in sorted(set(batch_sizes)) or BATCH_SIZES:
        length = {} if equal_steps else _same_images_seen(base, batch)
        if base.micro_batch_size is not None and base.micro_batch_size > batch:
            length["micro_batch_size"] = batch
        for margin in chosen:
            settings = {"loss.margin": margin, "global_batch_size": batch, **length}
            name = f"margin-{shown(margin)}-batch-{batch}"
            cells.append(_cell(base, directory, name, settings, before=not cells))
    return tuple(cells)


def check_evaluation(base: Config) -> None:
    """Refuse a configuration without cross-resolution evaluation, which everything here is drawn from."""
    if base.evaluate is None:
        raise OctoscaleError("the configuration evaluates nothing; give it an evaluate block with pairs and images")
    if "cross" not in base.evaluate.modes:
        raise OctoscaleError(f"evaluate.modes is {list(base.evaluate.modes)}, and this needs cross among them")


def _same_images_seen(base: Config, batch: int) -> dict[str, Any]:
    """The settings counted in steps, for a batch of another size that sees as many images."""
    if base.steps is None:
        # An epoch is an epoch.
        scaled: dict[str, Any] = {}
    else:
        scaled = {"steps": _scaled(base, base.steps, batch)}
        if base.schedule.milestones is not None:
            ratio = base.global_batch_size / batch
            scaled["schedule.milestones"] = [milestone * ratio for milestone in base.schedule.milestones]
    if base.schedule.warmup_steps:
        scaled["schedule.warmup_steps"] = _scaled(base, base.schedule.warmup_steps, batch)
    return {key: value for key, value in scaled.items() if batch != base.global_batch_size}


def _scaled(base: Config, steps: int, batch: int) -> int:
    return max(1, round(steps * base.global_batch_size / batch))


def _cell(
    base: Config, directory: str, name: str, settings: dict[str, Any], *, benchmarks: bool = False, before: bool = False
) -> Cell:
    place = f"{directory.rstrip('/')}/{name}"
    values = base.model_dump(mode="json")
    values["directory"] = place
    # All cells start from the same network: it is evaluated once.
    values["evaluate"]["at_start"] = before
    # One place of all runs is one place for each of them.
    for block, key in (("checkpoint", "url"), ("telemetry", "folder")):
        if values[block][key] is not None:
            values[block][key] = f"{values[block][key].rstrip('/')}/{name}"
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = parse_config(values, source=f"of {name}", overrides=overrides)
    return Cell(name, settings, config, benchmarks=benchmarks, before=before)
