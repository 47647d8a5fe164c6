"""File descriptors with exactly one owner."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class OwnedFd:
    """Closes its descriptor once, unless `steal` has given it away."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    def steal(self) -> int:
        """The descriptor, from now on the caller's."""
        number = self.fileno()
        self._number = -1
        return number

    def close(self) -> None:
        if self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)


def close_all(numbers: Iterable[int]) -> None:
    for number in numbers:
        os.close(number)


@contextmanager
def opened(number: int) -> Iterator[int]:
    """Closes it at the end."""
    try:
        yield number
    finally:
        os.close(number)
