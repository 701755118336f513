"""Which failures are tried again, for how long, and what is counted."""

import logging
import random
import threading
import time
from types import SimpleNamespace

import pytest

from octoscale.data.objects import ExpiredError, TransientError, refusal
from octoscale.data.retry import Backoff, Operation, StoppedError, counters

QUICK = Backoff(base_seconds=1e-4, cap_seconds=1e-3)


def operation(deadline_seconds: float = 5.0, backoff: Backoff = QUICK) -> Operation:
    return Operation("of the test", "s3://bucket/name", deadline_seconds, 0.1, backoff)


class Failing:
    """Raises `errors` one after the other, then returns "done"."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)
        self.tries = self.renewals = 0

    def __call__(self, seconds: float) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def renew(self) -> None:
        self.renewals += 1


def test_pauses_are_uniform_below_a_doubling_limit() -> None:
    backoff, draw = Backoff(base_seconds=0.1, cap_seconds=1.0), random.Random(0)

    for retry, limit in enumerate([0.1, 0.2, 0.4, 0.8, 1.0, 1.0]):
        pauses = [backoff.pause_seconds(retry, draw) for _ in range(2000)]
        assert 0 <= min(pauses) < 0.05 * limit
        assert 0.95 * limit < max(pauses) <= limit
        # The mean of 2000 uniform draws is within 5 standard errors: 5 / sqrt(12 · 2000) = 0.032 of the limit.
        assert abs(sum(pauses) / 2000 - limit / 2) < 0.033 * limit
    assert backoff.pause_seconds(10**6, draw) <= 1.0


def test_the_runs_own_random_numbers_stay_as_they_are() -> None:
    random.seed(0)
    state = random.getstate()

    operation().run(attempt := Failing(TransientError("busy", "")), attempt.renew)

    assert random.getstate() == state


def test_a_passing_failure_is_retried_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    attempt = Failing(TransientError("busy", "slow down"), TransientError("timeout", "silence"))
    before = counters.snapshot().get("of the test")

    with caplog.at_level(logging.INFO):
        assert operation().run(attempt, attempt.renew) == "done"

    now = counters.snapshot()["of the test"]
    assert now.requests - (before.requests if before else 0) == 3
    assert now.retries["timeout"] - (before.retries["timeout"] if before else 0) == 1
    assert "s3://bucket/name: busy (slow down); retry 1" in caplog.text
    assert "s3://bucket/name: timeout (silence); retry 2" in caplog.text


@pytest.mark.parametrize("error", [FileNotFoundError("x"), FileExistsError("x"), PermissionError("x"), OSError("x")])
def test_a_failure_for_good_is_raised_at_once(error: OSError) -> None:
    attempt = Failing(error)

    with pytest.raises(type(error)):
        operation().run(attempt, attempt.renew)

    assert attempt.tries == 1


def test_the_deadline_ends_it_with_the_last_failure() -> None:
    attempt = Failing(*[TransientError("busy", "slow down")] * 10_000)

    with pytest.raises(TransientError, match=r"slow down; gave up after \d+ tr(y|ies) in \d+\.\d s"):
        operation(deadline_seconds=0.1).run(attempt, attempt.renew)


def test_expired_credentials_are_renewed_three_times() -> None:
    passing, lasting = Failing(ExpiredError("old")), Failing(*[ExpiredError("old")] * 10)

    assert operation().run(passing, passing.renew) == "done"
    with pytest.raises(ExpiredError):
        operation().run(lasting, lasting.renew)

    assert (passing.tries, passing.renewals) == (2, 1)
    assert (lasting.tries, lasting.renewals) == (4, 3)


def test_a_stopped_operation_asks_no_more() -> None:
    stopped, attempt = operation(), Failing()
    stopped.stop()

    with pytest.raises(StoppedError):
        stopped.run(attempt, attempt.renew)

    assert attempt.tries == 0


def test_the_deadline_counts_from_the_last_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr("octoscale.data.retry.time", SimpleNamespace(monotonic=monotonic))
    transfer = operation(deadline_seconds=300.0)
    for minute in range(60):
        now[0] = 60.0 * minute
        transfer.progress()

    # An hour after the beginning.
    attempt = Failing(TransientError("busy", "slow down"))
    assert transfer.run(attempt, attempt.renew) == "done"

    now[0] += 301
    attempt = Failing(TransientError("busy", "slow down"))
    with pytest.raises(TransientError, match="gave up after 1 try"):
        transfer.run(attempt, attempt.renew)


def test_a_wish_to_stop_ends_a_pause() -> None:
    stop, slow = threading.Event(), Backoff(base_seconds=1e6, cap_seconds=1e6)
    stopped = Operation("of the test", "s3://bucket/name", 1e9, 0.1, slow, stop)
    tries = []

    def fail_and_wish(seconds: float) -> None:
        tries.append(seconds)
        threading.Timer(0.1, stop.set).start()
        raise TransientError("busy", "")

    began = time.monotonic()

    with pytest.raises(StoppedError, match="s3://bucket/name was given up"):
        stopped.run(fail_and_wish, lambda: None)

    # The pause would be about a week.
    assert time.monotonic() - began < 60
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", TransientError),
        (500, "", TransientError),
        (429, "", TransientError),
        (400, "RequestTimeout", TransientError),
        (409, "ConditionalRequestConflict", TransientError),
        (400, "ExpiredToken", ExpiredError),
        (403, "RequestExpired", ExpiredError),
        (400, "TokenRefreshRequired", ExpiredError),
        (403, "SignatureDoesNotMatch", PermissionError),
        (404, "NoSuchBucket", FileNotFoundError),
        (412, "PreconditionFailed", FileExistsError),
        (501, "NotImplemented", OSError),
        (400, "InvalidRequest", OSError),
    ],
)
def test_the_servers_answer_says_whether_to_try_again(status: int, code: str, kind: type[OSError]) -> None:
    assert type(refusal(status, code, "why")) is kind
