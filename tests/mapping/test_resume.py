"""A run that was interrupted goes on from the chunks that it kept, and ends as one that never was."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from benexp.core.clocks import StageClocks
from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.mapping import pipeline
from benexp.mapping.grid import NOT_ASKED, PatchGrid, ProbabilityGrid, packed
from benexp.mapping.plausibility import Content
from benexp.mapping.resume import KeptChunks
from benexp.products.offsets import OffsetDecision
from tests.mapping.test_pipeline import SPEC, Arithmetic, ArrayTile

SHAPE = (100, 130)
STRIDE = 6
PATCHES = PatchGrid(SHAPE, SPEC.patch_size, STRIDE)
WHOLE = Window(0, 0, *SHAPE)
HOLE = np.ones(SHAPE, bool)
HOLE[30:60, 20:70] = False


class Quarter(Arithmetic):
    """Stays under 1 where invalid pixels, which enter as the band's mean, are in a corner, too."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        return super()._infer(patches) / 4


class PowerError(RuntimeError):
    """It went out."""


class Tile(ArrayTile):
    """Can be read so many times."""

    def __init__(self, reads: int = 10_000) -> None:
        super().__init__(SHAPE, HOLE)
        self.left = reads

    def read(self, window):  # type: ignore[no-untyped-def]
        self.left -= 1
        if self.left < 0:
            raise PowerError
        return super().read(window)


def classify(
    tile: Tile, folder: Path, key: str = "k" * 64, chunk_size: int = 30, area: Window = WHOLE
) -> tuple[ProbabilityGrid, int]:
    kept = kept_in(folder, key)
    grid = empty()
    with Quarter(SPEC, batch_size=7) as backend:
        pipeline.classify(
            *(tile, backend, grid, area), chunk_size=chunk_size, min_valid=0.5, clocks=StageClocks(), kept=kept
        )
    return grid, kept.restored


def kept_in(folder: Path, key: str = "k" * 64) -> KeptChunks:
    return KeptChunks(folder, key, PATCHES, len(SPEC.classes))


def empty() -> ProbabilityGrid:
    return ProbabilityGrid.empty(PATCHES, len(SPEC.classes))


def restored_in(folder: Path) -> ProbabilityGrid:
    """The grid that the kept chunks of a folder make."""
    grid = empty()
    for chunk, answers in kept_in(folder).restore():
        grid.add(chunk, answers)
    return grid


def same(one: ProbabilityGrid, other: ProbabilityGrid) -> bool:
    names = ("probabilities", "patch_states", "pixel_states")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.fixture
def whole(tmp_path: Path) -> ProbabilityGrid:
    (tmp_path / "whole").mkdir()
    return classify(Tile(), tmp_path / "whole")[0]


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A folder with what a run left that read 7 of 12 chunks."""
    folder = tmp_path / "cut off"
    folder.mkdir()
    with pytest.raises(PowerError):
        classify(Tile(reads=7), folder)
    return folder


def test_it_goes_on_where_it_stopped(whole: ProbabilityGrid, cut_off: Path) -> None:
    tile = Tile()
    grid, restored = classify(tile, cut_off)
    # The last chunk that was read may not have been classified any more.
    assert 6 <= restored <= 7
    assert 10_000 - tile.left == 12 - restored
    assert same(grid, whole)


def test_with_other_chunks_it_goes_on_all_the_same(whole: ProbabilityGrid, cut_off: Path) -> None:
    tile = Tile()
    grid, restored = classify(tile, cut_off, chunk_size=15)
    assert restored
    assert 10_000 - tile.left < len(PATCHES.chunks(15))
    assert same(grid, whole)


def test_what_the_first_part_held_is_not_forgotten(tmp_path: Path) -> None:
    tile = Tile(reads=7)
    tile.pixels[1] = 7
    with pytest.raises(PowerError):
        classify(tile, tmp_path)
    tile.left = 10_000
    grid, restored = classify(tile, tmp_path)
    assert restored
    none = OffsetDecision({}, "a test")
    # The chunks of the second part alone are too few to say anything.
    assert [warning[:7] for warning in Content(SPEC.bands, grid.tally).warnings(none)] == ["B03 is "]


def test_a_region_goes_on_from_chunks_of_the_whole_and_the_whole_from_those_of_a_region(
    whole: ProbabilityGrid, cut_off: Path
) -> None:
    """Whatever patches they hold: each is classified once."""
    tile = Tile()
    region = Window(40, 30, 60, 50)
    grid, restored = classify(tile, cut_off, area=region)
    assert restored and 0 < 10_000 - tile.left < len(PATCHES.chunks(30))
    touching = PATCHES.touching(region)
    assert np.array_equal(grid.probabilities[touching], whole.probabilities[touching])
    grid, more = classify(Tile(), cut_off)
    assert more == restored + 10_000 - tile.left
    assert same(grid, whole)


def test_another_question_starts_anew_and_says_so(
    whole: ProbabilityGrid, cut_off: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid, restored = classify(Tile(), cut_off, key="l" * 64)
    assert restored == 0
    assert "changed since the run that was interrupted" in caplog.text
    assert same(grid, whole)
    assert [path.name for path in cut_off.iterdir()] == [".chunks-" + "l" * 16]


def test_a_damaged_chunk_is_classified_again(
    whole: ProbabilityGrid, cut_off: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted(cut_off.glob(".chunks-*/*.npz"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-30])
    files[2].write_bytes(bytes(files[2].stat().st_size))
    grid, restored = classify(Tile(), cut_off)
    assert restored == len(files) - 3
    assert caplog.text.count("is damaged") == 3
    assert same(grid, whole)


def test_a_chunk_that_a_power_cut_tore_is_never_used(cut_off: Path) -> None:
    """Wherever it is torn: it ends there, or zeros follow, or a block was not written."""
    path, *others = sorted(cut_off.glob(".chunks-*/*.npz"))
    for other in others:
        other.unlink()
    content = path.read_bytes()
    assert len(content) > 1000
    torn = [content[:at] for at in range(len(content))]
    torn += [left + bytes(len(content) - len(left)) for left in torn]
    blocks = [(at, size) for size in (16, 64, 512) for at in range(0, len(content), size)]
    torn += [content[:at] + bytes(len(content[at : at + size])) + content[at + size :] for at, size in blocks]
    for left in torn:
        path.write_bytes(left)
        grid = restored_in(cut_off)
        # Zeros over what were zeros are no damage.
        assert grid.patch_states.any() == (left == content) == path.exists()
        assert grid.probabilities.any() == grid.classified.any() == grid.pixel_states.any() == grid.patch_states.any()


def test_a_chunk_that_was_being_written_is_none(whole: ProbabilityGrid, cut_off: Path) -> None:
    path, *others = sorted(cut_off.glob(".chunks-*/*.npz"))
    half = path.rename(path.with_name(f"{path.stem}.partial-0123abcd.npz"))
    grid, restored = classify(Tile(), cut_off)
    assert restored == len(others)
    assert not half.exists()
    assert same(grid, whole)


def test_no_flipped_byte_of_a_chunk_is_believed(whole: ProbabilityGrid, cut_off: Path) -> None:
    path = min(cut_off.glob(".chunks-*/*.npz"))
    content = path.read_bytes()
    noticed = 0
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        grid = restored_in(cut_off)
        done = grid.patch_states != NOT_ASKED
        # Some bytes of a zip file say nothing that matters.
        assert np.array_equal(grid.probabilities[done], whole.probabilities[done])
        noticed += not path.exists()
    assert noticed > len(content) / 7 / 2


def test_nothing_is_left_when_it_is_removed(cut_off: Path) -> None:
    kept_in(cut_off).remove()
    assert not list(cut_off.iterdir())


def test_a_chunk_of_another_grid_and_one_that_is_a_bomb_are_classified_again(
    whole: ProbabilityGrid, cut_off: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = sorted(cut_off.glob(".chunks-*/*.npz"))
    with np.load(files[0]) as saved:
        content = dict(saved)
    for file, change in zip(
        files,
        (
            {"probabilities": content["probabilities"][:1]},
            {"more": np.zeros(10_000_000)},
            {"at": np.array([0, 10**6, 0, 10**6])},
            {"at": np.array([print], dtype=object)},
        ),
        strict=False,
    ):
        # With the name that tells it to be whole, which anybody can give.
        made = packed(**content | change)
        file.with_name(f"{file.stem.rpartition('-')[0]}-{hashlib.sha256(made).hexdigest()[:16]}.npz").write_bytes(made)
        file.unlink()
    grid, restored = classify(Tile(), cut_off)
    assert restored == len(files) - 4
    assert caplog.text.count("its patches are classified again") == 4
    assert same(grid, whole)


def test_chunks_are_not_kept_behind_a_link(cut_off: Path, tmp_path: Path) -> None:
    kept = next(cut_off.glob(".chunks-*"))
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BenexpError, match="is a link, to .*elsewhere: remove it"):
        classify(Tile(), cut_off)
