"""How soon a thread lets another have the interpreter."""

import sys

import pytest

from clew.base.switching import SWITCH_S, switching_soon


def test_a_thread_hands_the_interpreter_over_soon_only_inside():
    before = sys.getswitchinterval()
    with switching_soon():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    assert sys.getswitchinterval() == before
