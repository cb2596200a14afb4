"""Backends whose answers, and failures, are known."""

from typing import ClassVar

import numpy as np

from benexp.backends.base import Backend, Needs
from benexp.core.errors import BenexpError


class Table(Backend):
    """Answers one row for patches that are dark in B02 and another for bright ones; notes who is open."""

    dark: ClassVar[dict[int, float]] = {1: 0.9, 2: 0.1}
    bright: ClassVar[dict[int, float]] = {2: 0.8, 3: 0.5}
    opened: ClassVar[list[str]] = []
    open_now: ClassVar[set[str]] = set()

    def _open(self) -> None:
        self.opened.append(type(self).__name__)
        self.open_now.add(type(self).__name__)
        assert len(self.open_now) == 1, "two engines at once"

    def _close(self) -> None:
        self.open_now.discard(type(self).__name__)

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        answers = np.zeros((len(patches), 19), np.float32)
        for row, patch in zip(answers, patches, strict=True):
            chosen = self.dark if patch[0].mean() < 2000 else self.bright
            row[list(chosen)] = list(chosen.values())
        return answers


class Other(Table):
    """Another class where it is bright: far from a tie at fp32."""

    bright: ClassVar[dict[int, float]] = {2: 0.4, 3: 0.7}


class Rounded(Table):
    """Not fp32; .8 and .75 are no tie, whatever the precision allows an artefact."""

    precisions: ClassVar[tuple[str, ...]] = ("bf16", "int8")
    bright: ClassVar[dict[int, float]] = {2: 0.8, 3: 0.75}


class Quantised(Rounded):
    needs: ClassVar[Needs] = "onnx"


class Unlike(Rounded):
    bright: ClassVar[dict[int, float]] = {2: 0.75, 3: 0.8}


class Fallen(Table):
    def _open(self) -> None:
        super()._open()
        self._fell_back("wonders", "cpu", "pip install wonders")


class Missing(Table):
    def _open(self) -> None:
        raise BenexpError("Missing needs wonders: pip install wonders")


class Broken(Table):
    def _open(self) -> None:
        raise RuntimeError("no such\ndevice")


class Relapsing(Table):
    def _infer(self, patches: np.ndarray) -> np.ndarray:
        if len(self.opened) > 2:
            raise RuntimeError("it broke in the middle")
        return super()._infer(patches)
