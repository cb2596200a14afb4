"""How many patches at once: the choice of `backend.batch_size=auto`."""

from collections.abc import Callable

START = 4
"""Smaller batches are no use to anybody who does not run out of memory."""
LIMIT = 4096
GAIN = 0.05


def choose_batch(rate: Callable[[int], float | None]) -> tuple[int, dict[int, float | None]]:
    """The batch size whose double is less than 5 % faster, and the patches/s of every size that was tried.

    `rate(size)` gives patches/s, or None where memory does not suffice. Where it does not for the first size, 1 is
    chosen: opening the backend with it then fails or succeeds.

    >>> choose_batch({4: 10.0, 8: 19.0, 16: 19.5}.get)
    (8, {4: 10.0, 8: 19.0, 16: 19.5})
    """
    rates: dict[int, float | None] = {}
    chosen, size = 1, START
    while size <= LIMIT:
        speed = rates[size] = rate(size)
        before = rates.get(chosen)
        if speed is None or (before is not None and speed < before * (1 + GAIN)):
            break
        chosen, size = size, 2 * size
    return chosen, rates
