import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from benexp.core.window import Window
from benexp.mapping.blending import window_weights
from benexp.mapping.grid import CLASSIFIED, INVALID, VALID, PatchGrid, ProbabilityGrid
from benexp.report import embedding
from benexp.report.embedding import Embedded, embed, picture

WINDOW = window_weights(12, "sin2")
WHOLE = Window(0, 0, 100, 130)


def random_grid(stride: int, shape: tuple[int, int] = (100, 130)) -> ProbabilityGrid:
    grid = ProbabilityGrid.empty(PatchGrid(shape, 12, stride), 5)
    rng = np.random.default_rng(0)
    grid.probabilities[:] = rng.random(grid.probabilities.shape)
    grid.patch_states[:] = CLASSIFIED
    grid.pixel_states[:] = np.where(rng.random(shape) > 0.5, VALID, INVALID)
    return grid


def unpacked(embedded: Embedded, name: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(embedded.blobs[name])), dtype)


def test_a_small_grid_travels_as_it_is() -> None:
    grid = random_grid(6)
    found = embed(grid, WHOLE, WINDOW)
    assert found.facts["exact"] and not found.notices
    assert np.array_equal(unpacked(found, "probabilities", "<f4"), grid.probabilities.ravel())
    assert unpacked(found, "classified", "u1").all()
    bits = unpacked(found, "mask", "u1").reshape(100, -1)
    assert np.array_equal(np.unpackbits(bits, axis=1, count=130).astype(bool), grid.valid(WHOLE))
    assert (found.facts["rows"][-1], found.facts["cols"][-1]) == (88, 118)
    assert np.allclose(found.facts["window"], WINDOW)


def test_of_an_area_the_patches_that_touch_it_travel() -> None:
    grid = random_grid(6)
    area = Window(20, 50, 31, 9)
    found = embed(grid, area, WINDOW)
    # Patches of 12 pixels begin every 6: those from 12 on reach row 20, those from 42 on column 50.
    assert found.facts["shape"] == [31, 9]
    assert found.facts["rows"] == [-8, -2, 4, 10, 16, 22, 28]
    assert found.facts["cols"] == [-8, -2, 4]
    assert np.array_equal(unpacked(found, "probabilities", "<f4"), grid.probabilities[2:9, 7:10].ravel())
    bits = unpacked(found, "mask", "u1").reshape(31, -1)
    assert np.array_equal(np.unpackbits(bits, axis=1, count=9).astype(bool), grid.valid(area))


def test_a_larger_grid_is_rounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = random_grid(6)
    monkeypatch.setattr(embedding, "GRID_BYTES", 4 * grid.probabilities.size - 1)
    found = embed(grid, WHOLE, WINDOW)
    values = unpacked(found, "probabilities", "<u2") * found.facts["scale"]
    assert np.abs(values - grid.probabilities.ravel()).max() <= 0.51 / 65535
    assert not found.facts["exact"] and "rounded" in found.notices[0]


@pytest.mark.parametrize(("stride", "kept"), [(2, [0, 4, 88]), (6, [0, 12, 88]), (7, [0, 7, 88])])
def test_a_grid_too_large_is_thinned_as_far_as_patches_still_meet(
    stride: int, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = random_grid(stride)
    monkeypatch.setattr(embedding, "GRID_BYTES", grid.probabilities.size)
    found = embed(grid, WHOLE, WINDOW)
    rows = found.facts["rows"]
    assert [*rows[:2], rows[-1]] == kept
    assert max(np.diff(rows)) <= 12
    values = unpacked(found, "probabilities", "<u2").reshape(len(rows), -1, 5)[1, 1]
    at = kept[1] // stride
    assert np.allclose(values * found.facts["scale"], grid.probabilities[at, at], atol=1e-5)
    assert any("every second patch" in notice for notice in found.notices) == (stride != 7)


def test_a_ragged_mask_is_coarsened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MASK_BYTES", 600)
    grid = random_grid(6)
    found = embed(grid, WHOLE, WINDOW)
    assert found.facts["maskStep"] == 2 and "20 m" in found.notices[0]
    bits = unpacked(found, "mask", "u1").reshape(50, -1)
    assert np.array_equal(np.unpackbits(bits, axis=1, count=65).astype(bool), grid.valid(WHOLE)[::2, ::2])


def test_pictures_keep_their_limit_and_their_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 200, 300), dtype=np.uint8)
    valid = np.ones((200, 300), bool)
    valid[:50] = False
    for most, size in ((1_000_000, (300, 200)), (15_000, (225, 150))):
        monkeypatch.setattr(embedding, "PICTURE_BYTES", most)
        address = picture(noise, valid)
        data = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
        image = Image.open(io.BytesIO(data))
        assert len(data) <= most and image.size == size
        alpha = np.asarray(image.getchannel("A"))
        assert not alpha[: len(alpha) // 5].any() and alpha[len(alpha) // 3 :].all()
