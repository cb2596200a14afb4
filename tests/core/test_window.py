import numpy as np
import pytest

from benexp.core.window import Window


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Window(0, 0, 10, 10), Window(4, 6, 3, 2), Window(4, 6, 3, 2)),  # inside
        (Window(2, 3, 10, 10), Window(0, 0, 5, 6), Window(2, 3, 3, 3)),  # over the upper left corner
        (Window(2, 3, 10, 10), Window(11, 12, 50, 1), Window(11, 12, 1, 1)),  # over the lower right one
        (Window(5, 0, 1, 100), Window(0, 7, 100, 1), Window(5, 7, 1, 1)),  # a cross
        (Window(1, 2, 3, 4), Window(1, 2, 3, 4), Window(1, 2, 3, 4)),
    ],
)
def test_the_pixels_of_both(one: Window, other: Window, both: Window) -> None:
    assert one.intersection(other) == other.intersection(one) == both
    marks = np.zeros((70, 120), int)
    marks[one.slices] += 1
    marks[other.slices] += 1
    assert np.array_equal(np.argwhere(marks == 2)[[0, -1]], [both[:2], np.add(both[:2], both.shape) - 1])


def test_the_same_pixels_counted_from_another_window() -> None:
    assert Window(12, 7, 3, 4).relative_to(Window(10, 2, 99, 99)) == Window(2, 5, 3, 4)
    assert Window(1, 1, 3, 4).relative_to(Window(10, 2, 5, 5)) == Window(-9, -1, 3, 4)
    array = np.arange(200).reshape(10, 20)
    outer, inner = Window(2, 3, 6, 9), Window(4, 5, 2, 3)
    assert np.array_equal(array[outer.slices][inner.relative_to(outer).slices], array[inner.slices])
