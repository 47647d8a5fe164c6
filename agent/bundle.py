"""The code that the agent imports at its start, in one file.

The guest's root is on virtio-fs: each separate module costs several requests to the
host, the bundle only a few for all.  agent/bundle_writer.py makes it when the image
is built; the starter calls install() before it imports anything else, init.py
remove() after the last import.  Modules that are not in the bundle, and extension
modules, are found as usual.
"""

import marshal
import sys
from _frozen_importlib import ModuleSpec

# What this module itself imports cannot come from the bundle: import nothing more
# here.
EARLY = frozenset(sys.modules)


class Bundle:
    """A finder and loader in sys.meta_path; by name: origin, package's path, code."""

    def __init__(self, path: str) -> None:
        with open(path, "rb", buffering=0) as file:
            content = marshal.loads(file.read())  # noqa: S302
        self._modules: dict[str, tuple[str, list[str] | None, bytes]] = content

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self._modules:
            return None
        origin, locations, _ = self._modules[name]
        spec = ModuleSpec(name, self, origin=origin, is_package=locations is not None)  # type: ignore[arg-type]
        spec.submodule_search_locations = locations
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: object) -> None:
        _, _, code = self._modules.pop(module.__name__)  # type: ignore[attr-defined]
        exec(marshal.loads(code), module.__dict__)  # noqa: S102, S302


def install(path: str) -> None:
    """Searched before files, after modules that are compiled into Python."""
    try:
        bundle = Bundle(path)
    except FileNotFoundError:
        return
    sys.meta_path.insert(2, bundle)


def remove() -> None:
    """Frees the code that was not imported."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Bundle)]
