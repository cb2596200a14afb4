"""Pages that tests open in a real browser, and what goes wrong on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Visit:
    """A page opened from disk, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: message.type in ("error", "warning") and self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> "Visit":
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)
        return self


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a page from disk, in a window of some size; at the end nothing may have gone wrong or been fetched."""
    visits = []

    def open_page(path: Path, width: int = 1200, height: int = 800, **settings: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **settings)
        visits.append((context, Visit(context.new_page()), path))
        return visits[-1][1].open(path)

    yield open_page
    for context, visited, path in visits:
        context.close()
        assert visited.problems == []
        # The page, and what lies in it; of a benchmark's tiles their pictures, which lie below it.
        inside = ("data:", "blob:", f"{path.parent.as_uri()}/jobs/")
        assert [url for url in visited.requests if not url.startswith(inside)] == [path.as_uri()]
