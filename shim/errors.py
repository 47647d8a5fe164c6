"""The errors that cross module borders, by what the caller can do about them.

    SampanError
    ├── InvalidArgument      the caller's input; names the field and the value
    ├── NotFound             no such container, process, program or file
    ├── AlreadyExists
    ├── FailedPrecondition   right call, wrong state
    ├── Unimplemented
    ├── Unavailable          a peer is gone or not there yet
    ├── GuestFault           the guest or its vmm ended or broke its contract
    └── HostResource         the host lacks something: /dev/kvm, memory, disk, a file

One table, shim/containerd/codes.py, maps them to status codes; nothing below it knows any.
The text of an error is what a user of ctr reads: it says what happened, to what,
and which file or limit.
"""


class SampanError(Exception):
    """Root of the tree; never raised itself."""


class InvalidArgument(SampanError):
    pass


class NotFound(SampanError):
    pass


class AlreadyExists(SampanError):
    pass


class FailedPrecondition(SampanError):
    pass


class Unimplemented(SampanError):
    pass


class Unavailable(SampanError):
    pass


class GuestFault(SampanError):
    pass


class HostResource(SampanError):
    pass


BY_CATEGORY: dict[str, type[SampanError]] = {
    cls.__name__: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unimplemented,
        Unavailable,
        GuestFault,
        HostResource,
    )
}
"""For errors that travel by name, as on the vmm's control socket."""
