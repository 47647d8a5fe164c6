"""What containerd passes to containerd-shim-sampan-v2: arguments and stdin.

Flags are Go's, with one dash, the action last.  stdin has options, or from
containerd 2.3 on BootstrapParams.  containerd core/runtime/v2/shim (binary.go,
shim.go).  Imports as little as shim/containerd/start.py, for the same reason.
"""

import os

from shim.ttrpc.wire import decode_fields, read_text

OPTIONS_TYPE = "runtimeoptions.v1.Options"
TEXT_FLAGS = ("namespace", "address", "publish-binary", "id", "bundle", "socket")
TRUTH_FLAGS = ("debug", "v", "version", "info")


class UsageError(Exception):
    """The call is wrong; the text says what was expected."""


class Invocation:
    """The command line, and what the working directory adds to it."""

    def __init__(self, values: dict[str, str], action: str) -> None:
        self.namespace = values.get("namespace", "")
        self.container_id = values.get("id", "")
        self.containerd = values.get("address", "")
        self.bundle = values.get("bundle") or os.getcwd()
        self.debug = "debug" in values
        self.asks_version = "v" in values or "version" in values
        self.asks_info = "info" in values
        self.action = action

    def check(self) -> None:
        for name, value in (("namespace", self.namespace), ("id", self.container_id)):
            if not value or "/" in value or value.startswith("."):
                raise UsageError(f"-{name}: expected a name, is {value!r}")


def parse_arguments(argv: list[str]) -> Invocation:
    """As Go's flag package: -name value, -name=value, one dash or two."""
    values: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            return Invocation(values, word)
        name, equals, value = word.lstrip("-").partition("=")
        if name in TRUTH_FLAGS:
            if value not in ("false", "0"):
                values[name] = "true"
        elif name in TEXT_FLAGS:
            values[name] = value if equals else next(words, "")
        else:
            raise UsageError(f"flag provided but not defined: -{name}")
    return Invocation(values, "")


class StartOptions:
    """What `start` finds on stdin: BootstrapParams (containerd 2.3), or an Any of options."""

    def __init__(self, stdin: bytes, container_id: str) -> None:
        self.is_bootstrap = False
        self.config_path = ""
        try:
            fields = decode_fields(stdin)
            self.is_bootstrap = bool(fields) and read_text(fields, 1) == container_id
            extensions = fields.get(8, []) if self.is_bootstrap else [stdin]
            for extension in extensions:
                self._read_extension(extension)
        except (ValueError, UnicodeDecodeError) as error:
            raise UsageError(f"stdin: neither options nor BootstrapParams: {error}") from error

    def _read_extension(self, extension: int | bytes) -> None:
        """Options of other runtimes are ignored."""
        if not isinstance(extension, bytes):
            return
        fields = decode_fields(extension)
        if self.is_bootstrap:
            inner = fields.get(1, [b""])[-1]
            fields = decode_fields(inner) if isinstance(inner, bytes) else {}
        if read_text(fields, 1) != OPTIONS_TYPE:
            return
        value = fields.get(2, [b""])[-1]
        if isinstance(value, bytes):
            self.config_path = read_text(decode_fields(value), 2)
