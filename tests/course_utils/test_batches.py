"""Batches hold every example once, in an order that seed and epoch decide."""

import numpy as np

from course_utils.backend import keras
from course_utils.batches import BatchReader, Shuffler


def test_each_epoch_has_every_pair_once_in_an_order_that_the_seed_and_the_epoch_decide():
    def epochs(seed):
        keras.utils.set_random_seed(seed)
        shuffler = Shuffler()
        dataset = BatchReader(numbers, -numbers, 16, shuffler.order).dataset()
        found = []
        for epoch in (0, 1):
            shuffler.on_epoch_begin(epoch)
            pairs = [(x.numpy(), y.numpy()) for x, y in dataset]
            assert [len(x) for x, _ in pairs] == [16] * 43 + [12]
            assert all(np.array_equal(x, -y) and x.dtype == np.float32 for x, y in pairs)
            found.append(np.concatenate([x for x, _ in pairs])[:, 0].tolist())
        return found

    numbers = np.arange(700.0).reshape(-1, 1)  # more than one reading, the last not full
    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(700))
    assert first != second
    assert [first, second] == epochs(1)
    assert [first, second] != epochs(2)


def test_validation_data_are_read_in_their_order_and_inputs_are_their_own_targets():
    numbers = np.arange(50, dtype="float32")
    for x, y in BatchReader(numbers, numbers, 50).dataset():
        assert x.numpy().tolist() == y.numpy().tolist() == numbers.tolist()


def test_no_tuner_makes_the_next_epoch_wait():
    numbers = np.arange(50, dtype="float32")
    assert BatchReader(numbers, numbers, 50).dataset().options().autotune.enabled is False
