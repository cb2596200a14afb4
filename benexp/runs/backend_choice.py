"""The backend that a configuration names: its class, its arguments, and the artefact that it runs."""

import dataclasses
import inspect
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from benexp.backends.base import Backend
from benexp.config.groups import conf_folder, groups
from benexp.core.errors import BenexpError, one_line
from benexp.core.imports import import_name
from benexp.models.spec import ModelSpec

if TYPE_CHECKING:
    from exporters.ranges import RangePatches


CPU_BATCH, GPU_BATCH = 32, 256
"""Patches the model gets at once where `backend.batch_size` is null."""


@dataclasses.dataclass(frozen=True)
class BackendChoice:
    """A backend class with the settings of `backend.*`; nothing is opened or exported yet."""

    name: str
    """The name in the config group, or that of the user's class."""
    kind: type[Backend]
    settings: Mapping[str, Any]
    """With `_target_`, as in the configuration."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers import the class by `_target_`: a class that a function made has no name that pickle finds.
        return choose_backend, (dict(self.settings),)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the class."""
        return {key: value for key, value in self.settings.items() if key != "_target_"}

    @property
    def exported_at(self) -> str | None:
        """The precision of the exported file that the backend runs; None where it runs none."""
        if self.kind.needs in ("nothing", "checkpoint"):
            return None
        return self.kind.artefact_precision(str(self.settings.get("precision", self.kind.precisions[0])))

    def replace(self, **settings: Any) -> "BackendChoice":
        """The same backend with other settings."""
        return dataclasses.replace(self, settings={**self.settings, **settings})

    def check_available(self) -> None:
        """Raise BenexpError where a library of the backend is missing."""
        self.kind.ensure_available(allow_fallback=bool(self.settings.get("allow_fallback")))

    def make(
        self,
        spec: ModelSpec,
        *,
        tolerances: Mapping[str, float] | None = None,
        range_patches: "RangePatches | None" = None,
    ) -> Backend:
        """An unopened backend whose artefact exists; exporting it, the first time, may take a minute.

        `tolerances` by precision limit how far an artefact may be from the model; int8 is quantised on
        `range_patches`.
        """
        self.check_available()
        artefact = self.make_artefact(spec, tolerances or {}, range_patches)
        try:
            return self.kind(spec, artefact, **self.arguments)
        except BenexpError:
            raise
        # A user's class may refuse its arguments in any way.
        except Exception as error:
            raise BenexpError(
                f"backend: {self.kind.__name__} does not take {self.arguments}: {one_line(error)}"
            ) from error

    def make_artefact(
        self, spec: ModelSpec, tolerances: Mapping[str, float], range_patches: "RangePatches | None"
    ) -> Path | Callable[[int], Path] | None:
        """The file that the backend runs, exported now where the cache lacks it.

        A function of the batch size where each size needs a file of its own; None where the backend runs no file.
        """
        needs = self.kind.needs
        if needs == "nothing":
            return None
        if needs == "checkpoint":
            if spec.weights == "onnx":
                right = "openvino" if spec.path.suffix == ".xml" else "onnxruntime-cpu"
                raise BenexpError(f"{self.kind.__name__} runs checkpoints, not {spec.path}: choose backend={right}")
            return spec.path
        # Late: an installation without torch classifies with files that were exported elsewhere.
        from exporters.cached import cached, typed_source
        from exporters.recipe import Recipe

        precision = self.exported_at
        assert precision
        workspace_gb = self.settings.get("workspace_gb", Recipe.workspace_gb)
        recipe = Recipe(precision, None, tolerances.get(precision), range_patches, workspace_gb)
        if needs == "tensorrt":
            return lambda batch: cached(spec, "tensorrt", dataclasses.replace(recipe, batch=batch))
        if needs == "tensorrt-onnx":
            return typed_source(spec, recipe)
        return cached(spec, needs, recipe)


def choose_backend(settings: Mapping[str, Any]) -> BackendChoice:
    """Resolve `backend._target_`.

    Raises BenexpError where it names no backend class, or the class does not take one of the other settings.
    """
    target = settings["_target_"]
    found = import_name("backend._target_", target)
    if not (inspect.isclass(found) and issubclass(found, Backend)):
        raise BenexpError(f"backend._target_={target}: takes a subclass of benexp.backends.base.Backend")
    taken, open_ended = _taken(found)
    for key in settings:
        if key != "_target_" and key not in taken and not open_ended:
            raise BenexpError(f"unknown key backend.{key}: {found.__name__} takes {', '.join(taken)}")
    precision = str(settings.get("precision", found.precisions[0]))
    if precision not in found.precisions:
        raise BenexpError(f"backend.precision={precision}: {found.__name__} takes {', '.join(found.precisions)}")
    device = str(settings.get("device", found.devices[0]))
    kind, colon, number = device.partition(":")
    # One processor is all there is, however many sockets; of GPUs there may be several.
    if kind not in found.devices or (colon and (kind == "cpu" or not number.isdecimal())):
        takes = (name if name == "cpu" else f"{name} or {name}:1 and so on" for name in found.devices)
        raise BenexpError(f"backend.device={device}: {found.__name__} takes {', '.join(takes)}")
    if "batch_size" in settings and settings["batch_size"] is None:
        settings = {**settings, "batch_size": GPU_BATCH if kind == "cuda" else CPU_BATCH}
    return BackendChoice(backend_name(settings), found, settings)


def backend_name(settings: Mapping[str, Any]) -> str:
    """The name in the config group, or that of the user's class."""
    from omegaconf import OmegaConf

    for name in groups()["backend"]:
        known = OmegaConf.load(conf_folder() / "backend" / f"{name}.yaml")
        if OmegaConf.select(known, "_target_") == settings.get("_target_"):
            return name
    return str(settings.get("_target_"))


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


class LazyBackend:
    """A backend that `make` makes and that is opened when a tile first needs it, then kept until the end."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._open: Backend | None = None
        self._turn = threading.Lock()

    def get(self, patches: int = 0) -> Backend:
        """The backend, opened for tiles of so many patches (0: not known); any thread may call this."""
        with self._turn:
            if self._open is None:
                made = self._make()
                made.fit(patches)
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
