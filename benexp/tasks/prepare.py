"""From a configuration to a backend that is ready to open: the class, its arguments, and the artefact it needs."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benexp.backends.base import Backend
from benexp.errors import BenexpError, one_line
from benexp.imports import import_name
from benexp.models.spec import ModelSpec


def backend_class(backend: Mapping[str, Any]) -> type[Backend]:
    """The class that `backend._target_` names. Raises BenexpError where it is none or does not take the other keys."""
    target = backend["_target_"]
    found = import_name("backend._target_", target)
    if not (inspect.isclass(found) and issubclass(found, Backend)):
        raise BenexpError(f"backend._target_={target}: takes a subclass of benexp.backends.base.Backend")
    parameters = inspect.signature(found).parameters.values()
    taken = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    taken = [name for name in taken if name not in ("spec", "artefact")]
    for key in _arguments(backend):
        if key not in taken and not any(p.kind == p.VAR_KEYWORD for p in parameters):
            raise BenexpError(f"unknown key backend.{key}: {found.__name__} takes {', '.join(taken)}")
    for key, choices in (("precision", found.precisions), ("device", found.devices)):
        asked = str(backend.get(key, choices[0]))
        if asked.partition(":")[0] not in choices:
            raise BenexpError(f"backend.{key}={asked}: {found.__name__} takes {', '.join(choices)}")
    return found


def make_backend(backend: Mapping[str, Any], spec: ModelSpec) -> Backend:
    """An unopened backend whose artefact exists; exporting it, the first time, may take a minute."""
    found = backend_class(backend)
    artefact = _artefact(found, spec)
    try:
        return found(spec, artefact, **_arguments(backend))
    # A user's class may refuse its arguments in any way.
    except Exception as error:
        raise BenexpError(
            f"backend: {found.__name__} does not take {_arguments(backend)}: {one_line(error)}"
        ) from error


def _arguments(backend: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in backend.items() if key != "_target_"}


def _artefact(found: type[Backend], spec: ModelSpec) -> Path | None:
    if found.needs == "nothing":
        return None
    if found.needs == "checkpoint":
        if spec.weights == "onnx":
            raise BenexpError(f"{found.__name__} runs checkpoints, not {spec.path}: choose backend=onnxruntime-cpu")
        return spec.path
    if spec.weights == "onnx":
        return spec.path
    # Late: an installation without torch classifies with files that were exported elsewhere.
    from exporters.onnx import cached_onnx

    return cached_onnx(spec)


class LazyBackend:
    """A backend that is made and opened when a tile first needs it, and kept for the tiles after it."""

    def __init__(self, backend: Mapping[str, Any], spec: ModelSpec) -> None:
        self._config = backend
        self._spec = spec
        self._open: Backend | None = None
        backend_class(backend)

    def get(self) -> Backend:
        if self._open is None:
            made = make_backend(self._config, self._spec)
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
