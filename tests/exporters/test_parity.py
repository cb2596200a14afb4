import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benexp.core.errors import BenexpError
from benexp.models.spec import ModelSpec
from exporters.parity import compare, export_checked, in_batches, in_two_sizes, trial_patches

Floats = npt.NDArray[np.float32]


def always(*rows: tuple[float, ...]) -> Callable[[Floats], Floats]:
    """Answers the rows one after the other, whatever the patches, and from the first again."""
    table, position = np.array(rows, np.float32), 0

    def answer(patches: Floats) -> Floats:
        nonlocal position
        chosen = table[np.arange(position, position + len(patches)) % len(table)]
        position = (position + len(patches)) % len(table)
        return chosen

    return answer


def patches(count: int) -> dict[str, Floats]:
    return {"kind": np.zeros((count, 1, 2, 2), np.float32)}


def test_differences_by_hand() -> None:
    # Of four numbers one is off by 0.04 and one by 0.02; the best class stays.
    report = compare(always((0.2, 0.8), (0.6, 0.1)), always((0.24, 0.8), (0.58, 0.1)), patches(2), tolerance=0.08)
    assert report["passed"]
    kind = report["kinds"]["kind"]
    assert kind["max_abs_diff"] == pytest.approx(0.04)
    assert kind["mean_abs_diff"] == pytest.approx(0.015)
    assert kind["flips_per_million"] == 0
    assert kind["patches"] == 2


def test_over_the_tolerance_fails() -> None:
    answers = [(0.2, 0.8)] * 4
    assert compare(always(*answers), always((0.24, 0.8), *answers[1:]), patches(4), tolerance=0.05)["passed"]
    assert not compare(always(*answers), always((0.26, 0.8), *answers[1:]), patches(4), tolerance=0.05)["passed"]


def test_off_by_a_little_everywhere_fails() -> None:
    # 0.02 off on average, where a fifth of the tolerance is 0.01; half of that passes.
    report = compare(always((0.2, 0.8)), always((0.22, 0.78)), patches(1), tolerance=0.05)
    assert report["kinds"]["kind"]["passed"]
    assert not report["passed"]
    assert compare(always((0.2, 0.8)), always((0.21, 0.79)), patches(1), tolerance=0.05001)["passed"]


def test_a_tolerance_of_one_allows_everything() -> None:
    assert compare(always((0.0, 1.0)), always((1.0, 0.0)), patches(1), tolerance=1)["passed"]


def test_a_flip_is_another_best_class_and_passes_in_a_tie_only() -> None:
    sure = (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)
    tie = compare(always((0.50, 0.52), *sure), always((0.52, 0.51), *sure), patches(4), tolerance=0.05)
    assert tie["flips_per_million"] == tie["kinds"]["kind"]["flips_per_million"] == 250_000
    assert tie["beyond_ties_per_million"] == 0
    assert tie["passed"]
    # Neither is further off than 0.05, and the best led by 0.06.
    flip = compare(always((0.46, 0.52), *sure), always((0.5, 0.49), *sure), patches(4), tolerance=0.05)
    assert flip["kinds"]["kind"]["max_abs_diff"] == pytest.approx(0.04)
    assert flip["beyond_ties_per_million"] == flip["kinds"]["kind"]["beyond_ties_per_million"] == 250_000
    assert not flip["passed"]


def test_a_single_class_never_flips() -> None:
    report = compare(always((0.2,)), always((0.2,)), patches(1), tolerance=0.05)
    assert report["passed"] and report["beyond_ties_per_million"] == 0


def test_nan_fails() -> None:
    assert not compare(always((0.2, 0.8)), always((0.2, float("nan"))), patches(1), tolerance=1)["passed"]


def test_one_bad_kind_fails_the_whole() -> None:
    report = compare(
        lambda batch: np.zeros((len(batch), 2), np.float32),
        lambda batch: np.full((len(batch), 2), batch.mean(), np.float32),
        {"zero": np.zeros((2, 1, 2, 2), np.float32), "one": np.ones((2, 1, 2, 2), np.float32)},
        tolerance=0.1,
    )
    assert report["kinds"]["zero"]["passed"]
    assert not report["kinds"]["one"]["passed"]
    assert not report["passed"]


def two_kinds() -> dict[str, Floats]:
    return {"good": np.zeros((3, 1, 2, 2), np.float32), "bad": np.ones((1, 1, 2, 2), np.float32)}


def test_kinds_without_a_vote_are_reported_all_the_same() -> None:
    report = compare(
        lambda batch: np.zeros((len(batch), 2), np.float32),
        lambda batch: np.full((len(batch), 2), 0.01 + 0.9 * batch.mean(), np.float32),
        two_kinds(),
        tolerance=0.1,
        decides=("good",),
    )
    assert report["passed"]
    assert report["patches"] == 3
    assert report["max_abs_diff"] == pytest.approx(0.01)
    assert [report["kinds"][kind]["passed"] for kind in ("good", "bad")] == [True, False]
    assert [report["kinds"][kind]["decides"] for kind in ("good", "bad")] == [True, False]
    assert report["kinds"]["bad"]["max_abs_diff"] == report["max_abs_diff_all"] == pytest.approx(0.91)


def test_nan_has_a_vote_everywhere() -> None:
    report = compare(
        lambda batch: np.zeros((len(batch), 2), np.float32),
        lambda batch: np.full((len(batch), 2), np.nan if batch.any() else 0, np.float32),
        two_kinds(),
        tolerance=0.1,
        decides=("good",),
    )
    assert not report["passed"]
    assert np.isnan(report["max_abs_diff"])


@pytest.mark.parametrize(("count", "sizes"), [(5, [1, 4]), (1, [1])])
def test_two_batch_sizes(count: int, sizes: list[int]) -> None:
    seen = []

    def answer(batch: Floats) -> Floats:
        seen.append(len(batch))
        return batch.mean((2, 3))

    batch = np.arange(count * 4, dtype=np.float32).reshape(count, 1, 2, 2)
    assert np.array_equal(in_two_sizes(answer)(batch), batch.mean((2, 3)))
    assert seen == sizes


def test_fixed_batches_are_filled_up() -> None:
    seen = []

    def answer(batch: Floats) -> Floats:
        seen.append(len(batch))
        return batch.mean((2, 3))

    batch = np.arange(20, dtype=np.float32).reshape(5, 1, 2, 2)
    assert np.array_equal(in_batches(answer, 4)(batch), batch.mean((2, 3)))
    assert seen == [4, 4]


def test_the_whole_is_the_worst_and_the_mean_of_its_kinds() -> None:
    report = compare(
        lambda batch: np.zeros((len(batch), 2), np.float32),
        lambda batch: np.full((len(batch), 2), batch.mean(), np.float32),
        {"zero": np.zeros((3, 1, 2, 2), np.float32), "some": np.full((1, 1, 2, 2), 0.04, np.float32)},
        tolerance=0.1,
    )
    assert report["patches"] == 4
    assert report["max_abs_diff"] == pytest.approx(0.04)
    assert report["mean_abs_diff"] == pytest.approx(0.01)
    assert report["flips_per_million"] == 0
    assert report["passed"]


def test_trial_patches_are_what_their_names_say(small_model: ModelSpec) -> None:
    kinds = trial_patches(small_model)
    assert list(kinds) == ["realistic", "random", "constant", "zero", "saturated"]
    for batch in kinds.values():
        assert batch.shape[1:] == (10, 120, 120)
        assert batch.dtype == np.float32
    assert np.ptp(kinds["constant"], axis=(2, 3)).max() == 0
    assert not kinds["zero"].any()
    assert (kinds["saturated"] == 65535).all()


def test_a_flip_beyond_a_tie_is_what_is_told_and_kept(small_onnx: Path, tmp_path: Path) -> None:
    # Patch 2 of the second kind flips; another kind differs more, but within what is allowed.
    kinds = {"far": np.zeros((6, 1, 2, 2), np.float32), "flips": np.ones((6, 1, 2, 2), np.float32)}
    kinds["flips"][2] = 2

    def reference(batch: Floats) -> Floats:
        return np.tile(np.float32([0.3, 0.6]), (len(batch), 1))

    def candidate(batch: Floats) -> Floats:
        answers = reference(batch)
        answers[batch[:, 0, 0, 0] == 0] += np.float32([0, 0.19])
        answers[batch[:, 0, 0, 0] == 2] = [0.46, 0.45]
        return answers

    with pytest.raises(BenexpError, match=r"a patch of the flips ones gets another class, beyond a tie"):
        export_checked(
            tmp_path / "m.onnx",
            lambda made: shutil.copy(small_onnx, made) and None,
            lambda made: candidate,
            what="it",
            reference=reference,
            patches=kinds,
            tolerance=0.2,
            about={"reference": "that"},
            hint="mend it",
        )
    with np.load(tmp_path / "m.worst.npz") as worst:
        assert str(worst["kind"]) == "flips"
        assert (worst["patch"] == 2).all()
        assert worst["reference"].argmax() != worst["candidate"].argmax()
