"""`backends=[torch,openvino:int8]`: what task=compare is to compare."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benexp.config.groups import conf_folder, groups
from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.runs.backend_choice import BackendChoice, choose_backend

SHARED = ("batch_size", "threads", "allow_fallback")
"""Keys of `backend` that hold for all that are compared, where the user says them."""

TAKES = "takes name, name:precision or name:precision:device"


@dataclass(frozen=True)
class Entry:
    """One of `backends`: `label` is as the user wrote it."""

    label: str
    backend: BackendChoice

    @property
    def file(self) -> str:
        """The label as a part of a file's name."""
        return re.sub(r"[^\w.]+", "-", self.label)


def entries_of(config: Config, overrides: Sequence[str]) -> list[Entry]:
    """The backends to compare. Raises BenexpError unless at least two are given, all different and known."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.startswith("backend.") and key.removeprefix("backend.") not in SHARED:
            raise BenexpError(
                f"{key}: task=compare takes only {', '.join(f'backend.{shared}' for shared in SHARED)}, which hold for "
                f"all; precision and device are part of an entry of backends="
            )
    if len(config.backends) < 2:
        raise BenexpError(
            f"backends=[{','.join(config.backends)}]: task=compare takes at least two, "
            f"such as backends=[torch,onnxruntime-cpu]; an entry {TAKES}; names: {', '.join(groups()['backend'])}"
        )
    said = {override.lstrip("+").partition("=")[0].removeprefix("backend.") for override in overrides}
    shared = {key: config.backend[key] for key in SHARED if key in said}
    entries = [_entry(label, shared) for label in config.backends]
    for index, entry in enumerate(entries):
        for other in entries[:index]:
            if entry.file == other.file or entry.backend.settings == other.backend.settings:
                raise BenexpError(
                    f"backends=[{','.join(config.backends)}]: {other.label} and {entry.label} are the same"
                )
    return entries


def _entry(label: str, shared: Mapping[str, Any]) -> Entry:
    name, *rest = label.split(":", 2)
    if not all([name, *rest]):
        raise BenexpError(f"backends: {label!r}: an entry {TAKES}")
    # A user's own class has no file in the group.
    settings = {"_target_": name} if "." in name else _settings(name, label)
    settings = {**settings, **shared, **dict(zip(("precision", "device"), rest, strict=False))}
    try:
        return Entry(label, choose_backend(settings))
    except BenexpError as error:
        raise BenexpError(f"backends: {label}: {error}") from error


def _settings(name: str, label: str) -> dict[str, Any]:
    """conf/backend/<name>.yaml."""
    if name not in groups()["backend"]:
        raise BenexpError(f"backends: {label}: unknown name, it takes {', '.join(groups()['backend'])}")
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load(conf_folder() / "backend" / f"{name}.yaml"), resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
