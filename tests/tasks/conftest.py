"""The fixtures of tests of runs."""

from typing import Any

import pytest

from benexp.mapping.resume import KeptChunks


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The patches classified for each chunk, in order, by runs of this process; restored chunks do not count."""
    found: list[int] = []
    keep = KeptChunks.keep

    def noted(self: KeptChunks, chunk: Any, answers: Any) -> None:
        found.append(int(answers.classified.sum()))
        keep(self, chunk, answers)

    monkeypatch.setattr(KeptChunks, "keep", noted)
    return found
