"""Random weights that behave like trained ones: for speed runs, where only the work counts.

A network as it is initialised is nearly dead: the last scales of its blocks are zero or tiny, its answers hardly depend
on its input, and whatever precision costs does not show. So the constants are made random, batch norms take the
statistics of varied patches, and the head is fitted so that every class is some patch's best.
"""

import torch

from benexp.models.band_statistics import band_statistics
from benexp.models.checkpoint import new_network
from benexp.models.published import configuration
from benexp.models.synthetic import varied_patches

_PATCHES = 96
_DAMPING = 0.2


def lively_network(architecture: str, bands: tuple[str, ...], classes: int, seed: int) -> torch.nn.Module:
    """A network of `architecture` in eval mode, the same for the same seed."""
    means, stds = (torch.tensor(values).reshape(-1, 1, 1) for values in band_statistics(bands))
    inputs = ((torch.from_numpy(varied_patches(bands, _PATCHES, seed=seed)) - means) / stds).float()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = new_network(configuration(architecture, len(bands))).eval()
        _randomise_constants(network)
        _calibrate_batch_norms(network, inputs)
        _fit_head(network, inputs, classes)
    return network


def _randomise_constants(network: torch.nn.Module) -> None:
    """Replace what every initialisation sets to one number: scales by 0.5 to 1.5, shifts by noise."""
    for name, parameter in network.named_parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
            else:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)


def _calibrate_batch_norms(network: torch.nn.Module, inputs: torch.Tensor) -> None:
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        # None averages over all batches alike.
        norm.momentum = None
    if norms:
        for batch in torch.split(inputs, 32):
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def _fit_head(network: torch.nn.Module, inputs: torch.Tensor, classes: int) -> None:
    """Point each class at another patch.

    Features are turned into coordinates along their main directions, weak ones damped so that rounding is not blown up,
    and all class vectors have length 1. A patch's own direction then scores highest of all on it (Cauchy-Schwarz), so
    each class is the best one somewhere.
    """
    head: torch.nn.Linear = network.get_classifier()  # type: ignore[operator]
    features = _inputs_of(head, network, inputs).double()
    centre = features.mean(0)
    _, strengths, directions = torch.linalg.svd(features - centre, full_matrices=False)
    to_coordinates = directions.T / torch.hypot(strengths, _DAMPING * strengths[0])
    coordinates = (features - centre) @ to_coordinates
    weight = _spread(torch.nn.functional.normalize(coordinates, dim=1), classes) @ to_coordinates.T
    # Scores get a spread of 2 around -1: probabilities from hardly to almost surely.
    weight *= 2 / ((features - centre) @ weight.T).std()
    head.weight.copy_(weight)
    head.bias.copy_(-1 - weight @ centre)


def _inputs_of(layer: torch.nn.Module, network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for batch in torch.split(inputs, 32):
        network(batch)
    hook.remove()
    return torch.cat(seen)


def _spread(vectors: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of the unit vectors [n, d], each as far as can be from those chosen before it."""
    chosen = [0]
    nearness = vectors @ vectors[0]
    while len(chosen) < count:
        chosen.append(int(nearness.argmin()))
        nearness = torch.maximum(nearness, vectors @ vectors[chosen[-1]])
    return vectors[chosen]
