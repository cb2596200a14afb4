"""The Pareto front: what nothing else beats in both of two respects."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """True for each point (gain, cost) on the front: no other has as much gain at less cost, or more at no more.

    Equal points are on it together. A point that lacks a value is not, and takes no other off it.
    """
    known = [(gain, cost) for gain, cost in points if gain is not None and cost is not None]
    return [
        gain is not None
        and cost is not None
        and not any(g >= gain and c <= cost and (g, c) != (gain, cost) for g, c in known)
        for gain, cost in points
    ]
