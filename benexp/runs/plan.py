"""The plan of a run: everything that is resolved before work begins."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benexp.backends.base import Backend
from benexp.config.command import command
from benexp.config.hashing import config_hash
from benexp.config.schema import Chunking, Config, Execution
from benexp.core.classes import NAMES
from benexp.core.errors import BenexpError
from benexp.mapping import layers
from benexp.mapping.layers import Layer
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.runs.backend_choice import BackendChoice, choose_backend
from benexp.runs.inputs import Reading
from benexp.runs.quantization import range_patches_for
from exporters.ranges import RangePatches


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """One configuration, resolved, for all its products. `plan_run` makes it; nothing downstream reads the config."""

    asked: dict[str, Any]
    """The configuration as records show it."""
    config_hash: str
    command: str
    products: tuple[Path, ...]
    output_folder: Path
    in_collection: bool
    """True where the tiles get a STAC collection over them."""
    spec: ModelSpec
    backend: BackendChoice
    tolerances: Mapping[str, float]
    """By precision, how far the probabilities of an exported file may be from the model's."""
    range_patches: RangePatches | None
    layers: tuple[Layer, ...]
    chunking: Chunking
    reading: Reading
    region: dict[str, Any]
    """Config key `region`."""
    output_name: str | None
    overwrite: bool
    """Replace results of another question."""
    execution: Execution
    integrity: str
    resume: bool

    def __getstate__(self) -> dict[str, Any]:
        # Workers build the layers anew: a user's function may be a lambda, which pickle refuses.
        return {name: value for name, value in vars(self).items() if name != "layers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, layers=tuple(layers.build(state["asked"]["layers"], NAMES)))

    def make_artefact(self) -> None:
        """Export the file that the backend runs, where the cache lacks it."""
        self.backend.make_artefact(self.spec, self.tolerances, self.range_patches)

    def make_backend(self) -> Backend:
        """The backend, with its artefact, not opened yet."""
        return self.backend.make(self.spec, tolerances=self.tolerances, range_patches=self.range_patches)


def plan_run(
    config: Config,
    overrides: Sequence[str],
    products: Sequence[Path],
    *backends: BackendChoice,
    spec: ModelSpec | None = None,
) -> RunPlan:
    """Resolve a configuration for these products; `backends` and `spec` are taken over where they are known already.

    The plan is that of the first backend; its quantisation patches and model serve all of them.

    Raises BenexpError where a key names nothing that exists, or the model cannot be had.
    """
    backends = backends or (choose_backend(config.backend),)
    made_layers = requested_layers(config)
    spec = spec or resolve_model(config, *backends)
    return RunPlan(
        asked=dataclasses.asdict(config),
        config_hash=config_hash(config),
        command=command(overrides),
        products=tuple(products),
        output_folder=Path(config.output_folder),
        in_collection=in_collection(config),
        spec=spec,
        backend=backends[0],
        tolerances=config.export.tolerance,
        range_patches=range_patches_for(products, config, spec, *backends),
        layers=tuple(made_layers),
        chunking=config.chunking,
        reading=Reading.of(config),
        region=dataclasses.asdict(config.region),
        output_name=config.output_name,
        # A benchmark reuses whole measurements, by a rule of its own.
        overwrite=config.overwrite or config.task.name == "benchmark",
        execution=config.execution,
        integrity=config.integrity,
        resume=config.resume,
    )


def in_collection(config: Config) -> bool:
    """True where the tiles of this run get a STAC collection over them."""
    return bool(config.input_dir) or config.task.name == "benchmark"


def requested_layers(config: Config) -> list[Layer]:
    """The layers that the configuration asks for. Raises BenexpError where one is wrong, or the classes are missing."""
    made = layers.build(dataclasses.asdict(config.layers), NAMES)
    if "class" not in config.layers.names:
        raise BenexpError(f"layers.names={config.layers.names}: must have class in it, which the reports are made from")
    return made


def resolve_model(config: Config, *backends: BackendChoice) -> ModelSpec:
    """The model of the configuration, for `backends` to run.

    Raises BenexpError where it cannot be had; where a library of a backend is missing as well, the error names that:
    it is to be installed first.
    """
    try:
        return resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    except BenexpError:
        for backend in backends:
            backend.check_available()
        raise
