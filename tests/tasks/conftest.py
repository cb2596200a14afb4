"""What tests of runs note."""

from typing import Any

import pytest

from benexp.mapping.resume import KeptChunks


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patches of each chunk runs of this process have classified, in their order; not those taken over."""
    found: list[int] = []
    keep = KeptChunks.keep

    def noted(self: KeptChunks, chunk: Any, answers: Any) -> None:
        found.append(int(answers.classified.sum()))
        keep(self, chunk, answers)

    monkeypatch.setattr(KeptChunks, "keep", noted)
    return found
