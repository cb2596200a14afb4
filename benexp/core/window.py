"""A rectangle of pixels on a tile's 10 m grid."""

from typing import NamedTuple


class Window(NamedTuple):
    """`height` x `width` pixels whose upper left one is (`row`, `col`)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def intersection(self, other: "Window") -> "Window":
        """The pixels of both windows, which must have some in common."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, bottom - row, right - col)

    def relative_to(self, other: "Window") -> "Window":
        """The same pixels, counted from the upper left one of `other`."""
        return Window(self.row - other.row, self.col - other.col, *self.shape)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indexes this window out of an array of the whole grid: `array[..., *window.slices]`."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)
