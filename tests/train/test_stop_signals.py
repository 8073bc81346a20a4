"""Signals become a flag, and handlers go back to what they were."""

import os
import signal
import time

import pytest

from aqqua.train.signals import StopFlag, stop_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_and_nothing_else(number):
    with stop_on_signals() as flag:
        assert not flag
        assert flag == StopFlag()
        os.kill(os.getpid(), number)
        time.sleep(0)  # a handler runs between two bytecodes
        assert flag
        assert flag.signal_name == number.name


def test_the_first_signal_again_or_another_is_patient_but_a_second_ctrl_c_is_not():
    with stop_on_signals() as flag:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert flag
    with stop_on_signals() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.signal_name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_handlers_are_restored_whatever_happens():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_on_signals():
        assert all(signal.getsignal(n) != old for n, old in zip(SIGNALS, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(RuntimeError, match="mine"), stop_on_signals():
        raise RuntimeError("mine")
    assert [signal.getsignal(number) for number in SIGNALS] == before
