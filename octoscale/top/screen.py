"""A look for people: the job, its loss, its ranks, its accuracy."""

import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from octoscale.telemetry.words import duration, rate, share, size
from octoscale.top.look import Look, Rank

# The order of a step, and a colour for each; what is not in it comes after.
_PHASES = {
    "data_wait": "red", "degrade": "yellow", "embed": "green", "exchange": "magenta", "mine": "cyan", "loss": "blue",
    "second_pass": "bright_green", "optimizer": "bright_blue", "checkpoint": "bright_red", "evaluate": "white",
}  # fmt: skip
_BAR_WIDTH = 24
_WORDS, _WORDS_BESIDE_A_BAR = 5, 3
# Of more ranks those that need a look are shown.
_MOST_RANKS = 32


def render(look: Look, *, colours: bool) -> RenderableType:
    """The screen. Without `colours` a rank's phases are told in words alone."""
    parts: list[RenderableType] = [*_job(look)]
    if look.terms:
        parts += ["", _terms(look), Text(_embeddings(look))]
    if look.is_live and look.ranks:
        parts += ["", _ranks(look, colours=colours)]
        if (more := len(look.ranks) - _MOST_RANKS) > 0:
            parts.append(Text(f"… and {more:,} ranks that answer and wait less for data", "dim"))
        if colours and (legend := _legend(look)):
            parts.append(legend)
    if look.accuracy:
        parts += ["", _accuracy(look)]
    return Group(*parts)


def _job(look: Look) -> Iterator[RenderableType]:
    when = time.strftime("%H:%M:%S", time.localtime(look.unix_time))
    yield Text.assemble((look.run or look.source, "bold"), f"  {when}", overflow="fold")
    if not look.is_known:
        if not look.ranks:
            yield Text(f"no rank has told where it is, and nothing is written yet: {look.source}", "yellow")
        elif look.is_live:
            yield Text("no rank answers: the run has ended, was killed, or is starting again", "yellow")
        else:
            yield Text(f"cannot read {look.source}: {look.ranks[0].fault}", "yellow")
        return
    if not look.is_live:
        yield Text(f"no rank serves metrics; the last that was written to {look.source}:", "yellow", overflow="fold")
    of = "" if look.steps is None else f" of {look.steps:,}"
    facts = [f"step {look.step or 0:,}{of}"]
    if look.epoch is not None:
        facts.append(f"epoch {look.epoch}")
    if look.is_live:
        facts.append(f"{rate(look.images_per_second)} images/s")
    if look.eta_seconds is not None:
        facts.append(f"{duration(look.eta_seconds)} left")
    yield Text(" · ".join(facts))
    facts = []
    if look.world_size is not None:
        facts.append(f"{look.world_size} rank{'s'[: look.world_size != 1]}")
    if look.attempt is not None:
        facts.append(f"attempt {look.attempt}, {look.restarts or 0} restart{'s'[: look.restarts != 1]}")
    if look.steps_lost:
        facts.append(f"{look.steps_lost:,} steps lost, {look.steps_replayed or 0:,} done again")
    if look.goodput_ratio is not None:
        states = sorted(look.wall_seconds.items(), key=lambda state: -state[1])
        rest = [f"{name.replace('_', ' ')} {duration(s)}" for name, s in states if s >= 0.5 and name != "productive"]
        facts.append(f"goodput {share(look.goodput_ratio)}" + (f" ({', '.join(rest[:3])})" if rest else ""))
    if look.is_live:
        age = look.checkpoint_age_seconds
        facts.append("no commit yet" if age is None else f"commit {duration(age)} ago")
    if facts:
        yield Text(" · ".join(facts))


def _terms(look: Look) -> Table:
    table = _table("term", ">loss", ">active", ">inverted", ">d(a,p)", ">d(a,n)", ">largest hub")
    for name, term in look.terms.items():
        table.add_row(
            name, _number(term.loss), share(term.active_ratio), share(term.inverted_ratio),
            _number(term.positive_distance), _number(term.negative_distance), _count(term.largest_hub_anchors),
        )  # fmt: skip
    table.add_row("sum", _number(look.loss), style="bold")
    return table


def _embeddings(look: Look) -> str:
    facts = []
    if look.embedding_norm is not None:
        facts.append(f"embedding norm {_number(look.embedding_norm)} ± {_number(look.embedding_norm_deviation)}")
    if look.embedding_effective_rank is not None:
        facts.append(f"effective rank {look.embedding_effective_rank:.1f}")
    if look.gradient_norm is not None:
        facts.append(f"gradient norm {_number(look.gradient_norm)}")
    if look.learning_rate is not None:
        facts.append(f"learning rate {look.learning_rate:.3g}")
    return " · ".join(facts)


def _ranks(look: Look, *, colours: bool) -> Table:
    has_memory = any(rank.device_memory_bytes is not None for rank in look.ranks)
    headings = [">rank", "address", ">step", ">images/s", ">data wait", ">queue"]
    table = _table(*headings, *([">memory"] if has_memory else []), "where the time goes")
    chosen = sorted(look.ranks, key=lambda rank: (rank.fault is None, -rank.phases.get("data_wait", 0.0)))[:_MOST_RANKS]
    for rank in sorted(chosen, key=look.ranks.index):
        number = "?" if rank.rank is None else str(rank.rank)
        if rank.fault is not None:
            row = [number, rank.address, *[""] * (5 if has_memory else 4)]
            table.add_row(*row, Text(f"no answer: {rank.fault}", "red"))
            continue
        memory = [size(rank.device_memory_bytes)] if has_memory else []
        table.add_row(
            number, rank.address, _count(rank.step), rate(rank.images_per_second),
            share(rank.phases.get("data_wait", 0.0)) if rank.phases else "?", _count(rank.queue_depth),
            *memory, _bar(rank) if colours else Text(_largest(rank, _WORDS)),
        )  # fmt: skip
    return table


def _ordered(rank: Rank) -> list[tuple[str, float]]:
    order = list(_PHASES)
    return sorted(
        ((phase, ratio) for phase, ratio in rank.phases.items() if ratio >= 0.005),
        key=lambda item: order.index(item[0]) if item[0] in order else len(order),
    )


def _bar(rank: Rank) -> Text:
    """Shares as a bar, its cells rounded so that their sum is the whole, and the largest in words."""
    bar, filled, total = Text(no_wrap=True), 0, 0.0
    for phase, ratio in _ordered(rank):
        total += ratio
        cells = round(total * _BAR_WIDTH) - filled
        filled += cells
        bar.append("█" * cells, _PHASES.get(phase, "white"))
    bar.append("░" * (_BAR_WIDTH - filled), "dim")
    bar.append(f"  {_largest(rank, _WORDS_BESIDE_A_BAR)}")
    return bar


def _largest(rank: Rank, count: int) -> str:
    largest = sorted(_ordered(rank), key=lambda item: -item[1])[:count]
    return "  ".join(f"{phase} {share(ratio)}" for phase, ratio in largest)


def _legend(look: Look) -> Text | None:
    phases = dict.fromkeys(phase for rank in look.ranks for phase, _ in _ordered(rank))
    if not phases:
        return None
    legend = Text()
    for phase in sorted(phases, key=lambda name: list(_PHASES).index(name) if name in _PHASES else len(_PHASES)):
        legend.append("█ ", _PHASES.get(phase, "white"))
        legend.append(f"{phase}  ", "dim")
    return legend


def _accuracy(look: Look) -> Table:
    resolutions = sorted({size for sizes in look.accuracy.values() for size in sizes}, key=_as_number)
    table = _table("accuracy", *(f">{resolution} px" for resolution in resolutions))
    for mode, values in look.accuracy.items():
        table.add_row(
            mode, *(f"{values[resolution]:.2%}" if resolution in values else "" for resolution in resolutions)
        )
    return table


def _as_number(resolution: str) -> tuple[int, str]:
    return (int(resolution) if resolution.isdecimal() else 0, resolution)


def _table(*headings: str) -> Table:
    """Without lines; a heading that begins with > is of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return table


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
