"""Workers and timeouts: what is asked for, and what the batch makes of it."""

import re

import pytest
from pydantic import ValidationError

from octoscale.errors import OctoscaleError
from octoscale.resilience import ResilienceConfig, Workers, possible_world_sizes


@pytest.mark.parametrize(("text", "workers"), [("4", Workers(4, 4)), ("2..8", Workers(2, 8)), (3, Workers(3, 3))])
def test_workers_are_a_number_or_a_range(text: object, workers: Workers) -> None:
    assert ResilienceConfig.model_validate({"workers": text}).world == workers


@pytest.mark.parametrize("text", ["", "0", "8..2", "2-8", "0..4", "two", True, "1..2..3"])
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        ResilienceConfig.model_validate({"workers": text})


def test_world_sizes_give_every_rank_whole_pairs() -> None:
    assert possible_world_sizes(24, Workers(1, 12)) == [1, 2, 3, 4, 6, 12]
    assert possible_world_sizes(16, Workers(2, 3)) == [2]


def test_workers_on_which_the_batch_never_divides_are_refused_with_what_to_do() -> None:
    message = "global_batch_size 16 does not divide into whole pairs on 5..7 ranks; choose a multiple of 14"
    with pytest.raises(OctoscaleError, match=re.escape(message)):
        possible_world_sizes(16, Workers(5, 7))


def test_a_rendezvous_that_a_slow_import_would_miss_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 60"):
        ResilienceConfig(rendezvous_timeout_seconds=30)


def test_patience_shorter_than_the_pause_between_questions_is_refused() -> None:
    with pytest.raises(ValidationError, match="every worker would be taken for dead"):
        ResilienceConfig(hang_timeout_seconds=5, poll_seconds=6)
