"""What the metrics of all ranks say together."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from octoscale.telemetry.scrape import Sample, Scrape
from octoscale.top.look import Watch
from octoscale.top.sources import Seen, source_of
from tests.unit.top.conftest import BATCH, trained


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_look_has_the_job_its_loss_its_ranks_and_its_accuracy(directory: Path) -> None:
    with trained(directory, attempt=2) as ranks:
        ranks.steps(3)
        ranks.commit_and_evaluate()
        look = Watch().take(source_of(str(directory)).look(5))

    assert look.is_known
    assert (look.run, look.step, look.steps, look.epoch, look.world_size) == (str(directory), 3, 100, 1, 2)
    assert (look.attempt, look.restarts, look.loss) == (2, 1, 0.75)
    assert look.checkpoint_age_seconds is not None
    assert 0 <= look.checkpoint_age_seconds < 60
    assert look.goodput_ratio is not None
    assert 0 <= look.goodput_ratio <= 1
    assert look.wall_seconds["evaluate"] == pytest.approx(1)
    term = look.terms["lll"]
    assert (term.loss, term.active_ratio, term.positive_distance, term.negative_distance) == (0.25, 0.75, 1.25, 2.25)
    assert (look.embedding_norm, look.embedding_norm_deviation, look.embedding_effective_rank) == (4.0, 0.5, 7.5)
    assert look.accuracy == {"cross": {"7": 0.75, "112": 0.9875}, "same": {"7": 0.625}}
    assert [(rank.rank, rank.fault, rank.step, rank.queue_depth) for rank in look.ranks] == [
        (0, None, 3, 2),
        (1, None, 3, 2),
    ]
    # Of 0.5 s a step.
    assert look.ranks[1].phases == pytest.approx({"data_wait": 0.2, "embed": 0.4, "exchange": 0.2, "second_pass": 0.2})
    json.dumps(asdict(look), allow_nan=False)


def test_the_first_look_has_the_speed_since_the_start_and_later_ones_that_since_the_first(directory: Path) -> None:
    clock = Clock()
    watch = Watch(clock)
    with trained(directory) as ranks:
        source = source_of(str(directory))
        ranks.steps(4)
        first = watch.take(source.look(5))
        ranks.steps(6)
        clock.now += 2
        second = watch.take(source.look(5))

    assert first.images_per_second == pytest.approx(BATCH / 0.5)
    assert second.images_per_second == pytest.approx(6 * BATCH / 2)
    assert second.eta_seconds == pytest.approx(90 * BATCH / (6 * BATCH / 2))
    assert second.ranks[1].images_per_second == pytest.approx(6 * BATCH / 2 / 2)


def test_a_new_process_does_not_make_the_speed_negative(directory: Path) -> None:
    clock = Clock()
    watch = Watch(clock)
    source = None
    for count in (50, 2):
        with trained(directory) as ranks:
            source = source or source_of(str(directory))
            ranks.steps(count)
            look = watch.take(source.look(5))
        clock.now += 1

    assert look.images_per_second == pytest.approx(BATCH / 0.5)


def test_a_rank_that_does_not_answer_is_told_and_the_others_tell_the_rest(directory: Path) -> None:
    with trained(directory) as ranks:
        ranks.steps(1)
        (target,) = (directory / "telemetry/targets").glob("*-00000.json")
        target.write_text(json.dumps([{"targets": ["127.0.0.1:9"]}]))
        look = Watch().take(source_of(str(directory)).look(5))

    assert [(rank.rank, rank.fault) for rank in look.ranks] == [(0, "Connection refused"), (1, None)]
    assert (look.is_known, look.step, look.loss) == (True, 1, 0.75)
    # Rank 0 alone counts the images of all.
    assert look.images_per_second is None


def test_nothing_but_faults_is_a_look_too() -> None:
    look = Watch().take(Seen([(0, Scrape("here:1", fault="timed out"))], None, True, "here:1"))

    assert (look.is_known, look.step, look.loss, look.terms) == (False, None, None, {})


@pytest.mark.parametrize(
    "samples",
    [(), (Sample("go_goroutines", {}, 5.0),), (Sample("octoscale_step", {"rank": "x"}, float("nan")),),
     (Sample("octoscale_evaluation_accuracy_ratio", {"rank": "0"}, 1.0),)],
)  # fmt: skip
def test_the_metrics_of_another_program_raise_nothing(samples: tuple[Sample, ...]) -> None:
    look = Watch().take(Seen([(None, Scrape("here:1", samples))], None, True, "here:1"))

    assert [rank.fault for rank in look.ranks] == ["it is no rank of a run"]
