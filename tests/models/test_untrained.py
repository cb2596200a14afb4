import pytest
import torch

from benexp.models.band_statistics import band_statistics
from benexp.models.checkpoint import load_network
from benexp.models.resolve import resolve
from benexp.models.synthetic import varied_patches
from benexp.models.untrained import _spread, lively_network
from tests.models.builders import ARCHITECTURE, S2, model_config


def normalised(count: int, seed: int) -> torch.Tensor:
    means, stds = (torch.tensor(values).reshape(-1, 1, 1) for values in band_statistics(S2))
    return (torch.from_numpy(varied_patches(S2, count, seed=seed)) - means) / stds


# One with batch norms, one with attention, one with layer scale and one with gated layer norms.
@pytest.mark.parametrize("architecture", [ARCHITECTURE, "vit_tiny_patch16_224", "mixer_s32_224", "convnextv2_atto"])
def test_every_class_is_the_best_somewhere(architecture: str) -> None:
    network = lively_network(architecture, S2, 19, seed=3)
    with torch.inference_mode():
        scores = network(normalised(96, seed=3))
        unseen = network(normalised(64, seed=4))
    assert scores.argmax(1).unique().tolist() == list(range(19))
    assert scores.std() == pytest.approx(2, rel=0.1)
    assert len(unseen.argmax(1).unique()) >= 8
    assert not network.training


def test_same_seed_same_weights() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (lively_network(ARCHITECTURE, S2, 19, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_survive_the_folder(small_model: object) -> None:
    spec = resolve(model_config(weights="random"))
    network = lively_network(ARCHITECTURE, S2, 19, seed=0)
    patches = normalised(2, seed=9)
    with torch.inference_mode():
        assert torch.equal(load_network(spec, "timm")(patches), network(patches))


def test_spread_takes_the_farthest_each_time() -> None:
    # On the unit circle at 0, 10, 180 and 90 degrees: from the first, the opposite, then the one at a right angle.
    angles = torch.deg2rad(torch.tensor([0.0, 10, 180, 90]))
    vectors = torch.stack([angles.cos(), angles.sin()], 1)
    assert torch.equal(_spread(vectors, 3), vectors[[0, 2, 3]])


def test_varied_patches_are_dn_and_follow_the_seed() -> None:
    patches = varied_patches(("B02", "VV"), 6, size=50, seed=1)
    assert patches.shape == (6, 2, 50, 50)
    assert patches[:, 0].min() >= 1
    assert (patches[:, 0] == patches[:, 0].round()).all()
    assert patches[:, 1].max() < 20
    assert (varied_patches(("B02", "VV"), 6, size=50, seed=1) == patches).all()
    assert (varied_patches(("B02", "VV"), 6, size=50, seed=2) != patches).any()
