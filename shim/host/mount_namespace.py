"""Work in another mount namespace, which a thread of its own enters and takes along at its end.

The process's other threads stay where they are, with their own root and directory.
"""

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from shim.host.syscalls import enter_namespace_of_mounts

Result = TypeVar("Result")


def run_inside(namespace: int, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, in `namespace`, a descriptor.  The caller waits."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter_namespace_of_mounts(namespace)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="mounts")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
