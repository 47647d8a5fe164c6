"""The log of a shim: containerd's FIFO in the bundle, one line a record.

containerd copies it to its own log.  The FIFO may be full or have no reader
(containerd is being restarted): a line that cannot be written at once is lost.
"""

import logging
import os
import time
from typing import Final

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


CHATTY: Final = ("asyncio",)
"""Libraries whose debug messages tell nothing about containers."""


class ContainerdFormatter(logging.Formatter):
    """The text that containerd's own components write (logrus): key="value" pairs."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return (
            f'time="{stamp}.{int(record.msecs):03d}Z" level={record.levelname.lower()} '
            f"msg={quote(message)} component={record.name}"
        )


class FdHandler(logging.Handler):
    """Writes to a non-blocking descriptor that it does not own."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        try:
            os.write(self._fd, line.encode(errors="backslashreplace"))
        except OSError:
            return  # full, or nobody reads: see the module's docstring


def quote(text: str) -> str:
    """On one line, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(c if c.isprintable() else escape(c) for c in escaped)
    return f'"{escaped}"'


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def log_to(fd: int, level: str) -> None:
    """Sends this process's records of `level` and above to `fd`."""
    handler = FdHandler(fd)
    handler.setFormatter(ContainerdFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
