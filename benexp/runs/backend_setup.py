"""From a configuration to a backend that is ready to open: the class, its arguments, and the artefact it needs."""

import dataclasses
import inspect
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from benexp.backends.base import Backend
from benexp.config.groups import conf_folder, groups
from benexp.config.schema import Config
from benexp.core.errors import BenexpError, one_line
from benexp.core.imports import import_name
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec

if TYPE_CHECKING:
    from exporters.ranges import RangePatches


def backend_name(backend: Mapping[str, Any]) -> str:
    """The name in the config group, or that of the user's class."""
    from omegaconf import OmegaConf

    for name in groups()["backend"]:
        known = OmegaConf.load(conf_folder() / "backend" / f"{name}.yaml")
        if OmegaConf.select(known, "_target_") == backend.get("_target_"):
            return name
    return str(backend.get("_target_"))


def backend_class(backend: Mapping[str, Any]) -> type[Backend]:
    """The class that `backend._target_` names. Raises BenexpError where it is none or does not take the other keys."""
    target = backend["_target_"]
    found = import_name("backend._target_", target)
    if not (inspect.isclass(found) and issubclass(found, Backend)):
        raise BenexpError(f"backend._target_={target}: takes a subclass of benexp.backends.base.Backend")
    taken, open_ended = _taken(found)
    for key in _arguments(backend):
        if key not in taken and not open_ended:
            raise BenexpError(f"unknown key backend.{key}: {found.__name__} takes {', '.join(taken)}")
    precision = str(backend.get("precision", found.precisions[0]))
    if precision not in found.precisions:
        raise BenexpError(f"backend.precision={precision}: {found.__name__} takes {', '.join(found.precisions)}")
    device = str(backend.get("device", found.devices[0]))
    kind, colon, number = device.partition(":")
    # One processor is all there is, however many sockets; of GPUs there may be several.
    if kind not in found.devices or (colon and (kind == "cpu" or not number.isdecimal())):
        takes = (name if name == "cpu" else f"{name} or {name}:1 and so on" for name in found.devices)
        raise BenexpError(f"backend.device={device}: {found.__name__} takes {', '.join(takes)}")
    return found


def _taken(found: type[Backend]) -> tuple[list[str], bool]:
    """The keys that a backend takes, and whether it takes any others, too.

    `**keywords` of a subclass stand for what its base takes.
    """
    taken: list[str] = []
    for kind in found.__mro__:
        if "__init__" in vars(kind):
            parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
            taken += [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                return [name for name in dict.fromkeys(taken) if name not in ("spec", "artefact")], False
    return taken, True


def model_of(config: Config, *backends: Mapping[str, Any]) -> ModelSpec:
    """The model of the configuration, for `backends` to run.

    Where it cannot be had, and a library of a backend is missing as well, that is what the BenexpError says: it is
    what is to be mended first.
    """
    try:
        return resolve(dataclasses.asdict(config.model), patch_size=config.chunking.patch_size, seed=config.seed)
    except BenexpError:
        for backend in backends:
            _check_available(backend)
        raise


def _check_available(backend: Mapping[str, Any]) -> None:
    backend_class(backend).ensure_available(allow_fallback=bool(backend.get("allow_fallback")))


def exported_at(backend: Mapping[str, Any]) -> str | None:
    """The precision of the exported file that a backend runs; None where it runs none."""
    found = backend_class(backend)
    if found.needs in ("nothing", "checkpoint"):
        return None
    return found.artefact_precision(str(backend.get("precision", found.precisions[0])))


def make_backend(
    backend: Mapping[str, Any],
    spec: ModelSpec,
    *,
    tolerances: Mapping[str, float] | None = None,
    calibration: "RangePatches | None" = None,
) -> Backend:
    """An unopened backend whose artefact exists; exporting it, the first time, may take a minute.

    `tolerances` by precision say how far an artefact may be from the model, `calibration` what int8 is calibrated on.
    """
    found = backend_class(backend)
    _check_available(backend)
    artefact = make_artefact(backend, spec, tolerances or {}, calibration)
    try:
        return found(spec, artefact, **_arguments(backend))
    except BenexpError:
        raise
    # A user's class may refuse its arguments in any way.
    except Exception as error:
        raise BenexpError(
            f"backend: {found.__name__} does not take {_arguments(backend)}: {one_line(error)}"
        ) from error


def _arguments(backend: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in backend.items() if key != "_target_"}


def make_artefact(
    backend: Mapping[str, Any],
    spec: ModelSpec,
    tolerances: Mapping[str, float],
    calibration: "RangePatches | None",
) -> Path | Callable[[int], Path] | None:
    """What the backend runs, exported now where it is not there yet: here, whichever machine will run it.

    Where that depends on the batch size, what makes it; None where the backend runs nothing.
    """
    found = backend_class(backend)
    if found.needs == "nothing":
        return None
    if found.needs == "checkpoint":
        if spec.weights == "onnx":
            right = "openvino" if spec.path.suffix == ".xml" else "onnxruntime-cpu"
            raise BenexpError(f"{found.__name__} runs checkpoints, not {spec.path}: choose backend={right}")
        return spec.path
    # Late: an installation without torch classifies with files that were exported elsewhere.
    from exporters.cached import cached, typed_source
    from exporters.recipe import Recipe

    precision = exported_at(backend)
    assert precision
    workspace_gb = backend.get("workspace_gb", Recipe.workspace_gb)
    recipe = Recipe(precision, None, tolerances.get(precision), calibration, workspace_gb)
    if found.needs == "tensorrt":
        return lambda batch: cached(spec, "tensorrt", dataclasses.replace(recipe, batch=batch))
    if found.needs == "tensorrt-onnx":
        return typed_source(spec, recipe)
    return cached(spec, found.needs, recipe)


class LazyBackend:
    """A backend that is made and opened when a tile first needs it, and kept for the tiles after it."""

    def __init__(
        self,
        backend: Mapping[str, Any],
        spec: ModelSpec,
        *,
        tolerances: Mapping[str, float] | None = None,
        calibration: "RangePatches | None" = None,
    ) -> None:
        self._config = backend
        self._spec = spec
        self._tolerances = tolerances
        self._calibration = calibration
        self._open: Backend | None = None
        self._turn = threading.Lock()
        backend_class(backend)

    def get(self) -> Backend:
        """The backend, open; any thread may call this."""
        with self._turn:
            if self._open is None:
                made = make_backend(
                    self._config, self._spec, tolerances=self._tolerances, calibration=self._calibration
                )
                made.open()
                self._open = made
            return self._open

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()
