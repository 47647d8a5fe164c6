"""Writes the code that the agent imports at its start into one file: agent/bundle.py.

Run when the image is built, with the guest's own Python; no part of a running agent.
"""

import marshal
import sys

from agent.bundle import EARLY

PYC_HEADER_BYTES = 16  # PEP 552


def write(path: str) -> None:
    """Imports what the agent imports; keeps the modules that came from .pyc files."""
    import agent.init  # noqa: PLC0415
    import agent.server  # noqa: F401, PLC0415

    modules = {}
    for name, module in sys.modules.items():
        spec = module.__spec__
        if name in EARLY or spec is None or spec.name != name:
            continue
        if spec.origin is None or not spec.origin.endswith(".pyc"):
            continue
        with open(spec.origin, "rb") as file:
            code = file.read()[PYC_HEADER_BYTES:]
        locations = spec.submodule_search_locations
        modules[name] = (spec.origin, None if locations is None else list(locations), code)
    with open(path, "wb") as file:
        marshal.dump(modules, file)
