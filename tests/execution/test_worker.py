"""The worker's side."""

import pytest

from benexp.core.errors import BenexpError
from benexp.execution.worker import WorkerRuntime


class Task:
    def open(self, number: int | None) -> None: ...

    def close(self) -> None: ...

    def fail(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BenexpError("B02 is damaged"), "B02 is damaged"),
        (OSError(5, "Input/output error"), "unexpected OSError: [Errno 5] Input/output error (in a worker)"),
    ],
)
def test_what_a_task_raises_is_its_outcome_and_the_next_one_is_done(error: Exception, said: str) -> None:
    runtime = WorkerRuntime(Task())
    assert str(runtime.do("fail", (error,)).error) == said
    assert str(runtime.do("fail", (error,)).error) == said
    runtime.close()
