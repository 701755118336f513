"""SIGTERM becomes a wish for as long as the block runs."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from octoscale.interruption import Interruption, interruption


@pytest.fixture(autouse=True)
def handler() -> Iterator[list[int]]:
    """A handler of the test's own, so that a signal that is not caught does not end the tests."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_a_signal_in_the_block_is_a_wish_and_after_it_goes_to_the_handler_before(handler: list[int]) -> None:
    with interruption() as wish:
        assert not wish.asked
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.asked
    assert handler == []

    os.kill(os.getpid(), signal.SIGTERM)
    assert handler == [signal.SIGTERM]


def test_the_handler_before_is_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), interruption():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_python_did_not_set_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[object] = []

    def as_if_set_in_c(signum: int, handler: object) -> None:
        handlers.append(handler)

    monkeypatch.setattr(signal, "signal", as_if_set_in_c)
    with interruption():
        pass
    monkeypatch.undo()

    assert handlers[-1] == signal.SIG_DFL


def test_outside_the_main_thread_nothing_is_caught_and_nothing_fails() -> None:
    before = signal.getsignal(signal.SIGTERM)
    wishes: list[Interruption] = []

    def work() -> None:
        with interruption() as wish:
            assert signal.getsignal(signal.SIGTERM) is before
            wishes.append(wish)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [wish.asked for wish in wishes] == [False]
