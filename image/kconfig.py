"""Reads kernel configurations: the requested one, and the one that Kconfig made of it.

Pure.  The form is Kconfig's own (Linux Documentation/admin-guide/README.rst, "CONFIGURING
the kernel"): `CONFIG_NAME=value`, or `# CONFIG_NAME is not set` for no.
"""

import re
from collections.abc import Mapping
from typing import Final

from image.errors import FormatError

SET: Final = re.compile(r"CONFIG_(\w+)=(\S.*)")
UNSET: Final = re.compile(r"# CONFIG_(\w+) is not set")
NO: Final = "n"
"""The value of an option that is not named."""


def parse_config(text: str, name: str) -> dict[str, str]:
    """Values by option, without CONFIG_.  FormatError for an invalid or repeated one."""
    options: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := SET.fullmatch(line):
            option, value = match[1], match[2]
        elif match := UNSET.fullmatch(line):
            option, value = match[1], NO
        elif not line or line.startswith("#"):
            continue
        else:
            raise FormatError(f"{name}:{number}: no option of a kernel: {line!r}")
        if option in options:
            raise FormatError(f"{name}:{number}: CONFIG_{option} is there twice")
        options[option] = value
    return options


def find_dropped(wanted: Mapping[str, str], made: Mapping[str, str]) -> list[str]:
    """Options that Kconfig dropped: an option that they need is missing, or their names are
    unknown."""
    return [
        f"CONFIG_{option}={value} (it is {made.get(option, NO)})"
        for option, value in wanted.items()
        if made.get(option, NO) != value
    ]


def check_config(wanted: Mapping[str, str], made: Mapping[str, str], name: str) -> None:
    """FormatError names every option that was dropped."""
    if dropped := find_dropped(wanted, made):
        raise FormatError(f"{name}: the kernel's build dropped {', '.join(dropped)}")
