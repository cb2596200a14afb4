"""Landscapes are the same however they are asked for, and their regions are large enough for a patch."""

import numpy as np
import pytest

from benexp.core.classes import CLASSES, NODATA
from benexp.demo.landscape import land_cover, make_landscape, ranked, swath, truth_rows
from benexp.demo.scenery import make_palette, reflectance_rows
from benexp.mapping.blending import window_weights

PATCH, STRIDE = 120, 30


def test_ranks_are_uniform_and_keep_the_order() -> None:
    field = np.array([[3, -1], [100, 0]], np.float32)
    assert np.allclose(ranked(field), [[2 / 3, 0], [1, 1 / 3]])


def test_the_first_rule_that_holds_decides() -> None:
    plain = dict.fromkeys(("height", "moisture", "forest", "culture", "town", "works", "lake"), 0.5)
    plain |= {"shore": 1000.0, "bank": 100.0}
    pixels = [
        plain,
        plain | {"shore": -1.0},
        plain | {"lake": 1.0},
        plain | {"bank": -1.0},
        plain | {"bank": -1.0, "height": 0.9},
        plain | {"town": 1.0},
        plain | {"forest": 1.0, "height": 0.1},
    ]
    fields = {name: np.array([[pixel[name] for pixel in pixels]], np.float32) for name in plain}
    assert land_cover(fields).tolist() == [[1, 11, 8, 8, 13, 18, 3]]


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_made_alone_equal_those_of_the_whole(seed: int) -> None:
    landscape = make_landscape(180, seed)
    whole = truth_rows(landscape, 0, 180)
    assert np.array_equal(np.concatenate([truth_rows(landscape, 0, 77), truth_rows(landscape, 77, 180)]), whole)
    palette = make_palette(seed)
    rows = reflectance_rows(landscape, palette, 50, 70)
    assert np.array_equal(rows[:, 10:], reflectance_rows(landscape, palette, 60, 70))


@pytest.mark.parametrize("seed", range(4))
def test_the_wedge_lies_at_one_edge_and_slants(seed: int) -> None:
    axis = np.arange(200, dtype=np.float32)
    seen = swath(make_landscape(200, seed), axis, axis)
    edge = (~seen).sum(1)
    assert min(edge[0], edge[-1]) in (4, 6)
    assert max(edge[0], edge[-1]) == 30
    assert seen[:, 100].all()
    # One 20 m pixel is either seen or not.
    assert np.array_equal(seen[::2, ::2].repeat(2, 0).repeat(2, 1), seen)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_model_that_knows_every_share_would_map_most_pixels_right(seed: int) -> None:
    """The ceiling for any model of patches: where regions are smaller than a patch resolves, none can find them."""
    size = 900
    truth = truth_rows(make_landscape(size, seed), 0, size)
    window = window_weights(PATCH, "sin2")
    origins = range(0, size - PATCH + 1, STRIDE)
    blend = np.zeros((size, len(origins)))
    for column, origin in enumerate(origins):
        blend[origin : origin + PATCH, column] = window
    focus = blend**2
    seen = truth != NODATA
    total = focus.T @ seen @ focus + 1e-9
    scores = [blend @ (focus.T @ (truth == c.id) @ focus / total) @ blend.T for c in CLASSES]
    assert (np.argmax(scores, axis=0) == truth)[seen].mean() > 0.8
