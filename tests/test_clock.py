import time

import pytest

from torchstudy.records import PARTS
from torchstudy.training.clock import Clock


def test_time_counts_for_the_innermost_part_alone():
    clock = Clock()
    with clock.part("forward"):
        time.sleep(0.01)
        with clock.part("load"):
            time.sleep(0.03)
    seconds = clock.taken()
    assert seconds["load"] >= 0.03
    assert 0.01 <= seconds["forward"] < 0.03


def test_parts_add_up_to_all_the_time_there_was():
    clock = Clock()
    began = time.perf_counter()
    clock.taken()
    for part in ("load", "step", "load"):
        with clock.part(part):
            time.sleep(0.002)
    time.sleep(0.002)
    seconds = clock.taken()
    assert set(seconds) == set(PARTS)
    assert sum(seconds.values()) == pytest.approx(time.perf_counter() - began, abs=0.002)


def test_a_part_that_raises_hands_back_to_the_outer_one():
    clock = Clock()
    with pytest.raises(ValueError, match="no"), clock.part("step"):
        raise ValueError("no")
    time.sleep(0.005)
    assert clock.taken()["other"] >= 0.005


def test_what_was_taken_is_not_counted_twice():
    clock = Clock()
    with clock.part("load"):
        time.sleep(0.005)
    assert clock.taken()["load"] >= 0.005
    assert clock.taken()["load"] == 0


def test_it_waits_for_the_device_before_every_reading():
    waits = []
    clock = Clock(synchronise=lambda: waits.append(clock._part))
    with clock.part("forward"):
        pass
    assert waits == ["other", "forward"]
