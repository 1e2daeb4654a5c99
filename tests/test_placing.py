from torchstudy.execution.placing import CAPACITY, MEMORY, Placing
from torchstudy.records import TrainingKey

GIB = 2.0**30


def key(number: int) -> TrainingKey:
    return TrainingKey(family="CNN", number=number, seed=0)


def needed(gib: float) -> dict[str, float]:
    return {MEMORY: gib * GIB, CAPACITY: 24 * GIB}


def test_a_processor_takes_everything():
    placing = Placing(devices=["cpu"])
    assert [placing.take(key(number)) for number in range(9)] == ["cpu"] * 9


def test_every_gpu_gets_one_training_while_nothing_is_known():
    placing = Placing(devices=["cuda:0", "cuda:1"])
    assert [placing.take(key(number)) for number in range(3)] == ["cuda:0", "cuda:1", None]


def test_a_gpu_is_shared_once_the_memory_of_a_training_is_known():
    placing = Placing(devices=["cuda:0"])
    placing.take(key(0))
    assert placing.take(key(1)) is None
    placing.give_back(key(0), needed(7))
    assert [placing.take(key(number)) for number in range(1, 5)] == ["cuda:0"] * 3 + [None]


def test_the_largest_training_so_far_decides():
    placing = Placing(devices=["cuda:0"])
    placing.learn(needed(1))
    assert placing.slots("cuda:0") == 21
    placing.learn(needed(10))
    placing.learn(needed(2))
    assert placing.slots("cuda:0") == 2


def test_a_training_that_needs_almost_all_is_alone_and_not_refused():
    placing = Placing(devices=["cuda:0"])
    placing.learn(needed(23.5))
    assert placing.slots("cuda:0") == 1


def test_trainings_go_where_fewest_are():
    placing = Placing(devices=["cuda:0", "cuda:1"])
    placing.learn(needed(7))
    assert [placing.take(key(number)) for number in range(4)] == ["cuda:0", "cuda:1"] * 2
    placing.give_back(key(1), {})
    placing.give_back(key(3), {})
    assert placing.take(key(4)) == "cuda:1"
