"""Why the jail allows a call that the end-to-end tests make no thread of that kind use.

`make calls` fails for a call that is neither used nor here: it is superfluous.
"""

from typing import Final

from shim.vmm.jail.calls import Kind

EVERY_KIND: Final = {
    "brk": "malloc: whichever thread needs more of the main heap first",
    "mremap": "realloc of a large block",
    "mmap": "malloc: a large block, or a heap for the thread",
    "munmap": "free of a large block",
    "mprotect": "malloc: a thread's heap grows",
    "madvise": "malloc gives memory back",
    "clock_gettime": "the vDSO answers it only where the host's clock can be read without a call",
    "rt_sigprocmask": "raise and abort",
    "rt_sigreturn": "a signal's handler returns",
}
SIGNALLING: Final = dict.fromkeys(
    ("tgkill", "getpid", "gettid"),
    "one of several vCPUs ends the machine and signals the others, or itself",
)
CONSOLE: Final = dict.fromkeys(
    ("pread64", "pwrite64", "ftruncate"),
    "a console that has become too long is copied to its file's beginning, which is cut",
)
REASONS: Final[dict[Kind, dict[str, str]]] = {
    Kind.MAIN: {
        **SIGNALLING,
        **CONSOLE,
        "fstat": "CPython looks at a descriptor that it makes an object of",
        "getrandom": "CPython and malloc draw random numbers where they first need some",
        "ioctl": "the tap of a network, and the interrupts of its device",
        "rt_sigaction": "CPython's end puts signals back",
        "sigaltstack": "CPython's end takes faulthandler's stack away",
        "write": "eventfds of workers and vCPUs that are stopped",
    },
    Kind.VCPU: {
        **SIGNALLING,
        **CONSOLE,
        "close": "a driver resets its device, whose descriptors go",
        "fcntl": "a driver starts its device, whose listening sockets must not block",
        "poll": "MSI-X: is an interrupt pending that the driver asks for?",
    },
    Kind.FILES: {"newfstatat": "glibc's fstat, before 2.33"},
    Kind.STREAMS: {
        "ioctl": "EIO of a stream: is it a terminal whose other side has gone?",
        "shutdown": "one direction of a stream to a socket ends",
    },
    Kind.NETWORK: {
        "close": "vhost-net is given up, and the worker moves the packets",
        "ioctl": "a queue is handed to vhost-net, or taken back",
    },
    Kind.MEMORY: {
        "close": "a queue is reset while it works",
        "epoll_ctl": "a queue is served again after a reset",
    },
}


def find_reason(kind: Kind, call: str) -> str:
    """Empty if there is none."""
    return REASONS.get(kind, {}).get(call) or EVERY_KIND.get(call, "")
