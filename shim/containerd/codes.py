"""Which status a caller sees for which error: the one table.

Everything below the Task service raises shim/errors.py and knows no codes.
"""

import logging
from typing import Final

from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    GuestFault,
    HostResource,
    InvalidArgument,
    NotFound,
    SampanError,
    Unavailable,
    Unimplemented,
)
from shim.ttrpc.status import Code, StatusError

CODES: Final[dict[type[SampanError], Code]] = {
    InvalidArgument: Code.INVALID_ARGUMENT,
    NotFound: Code.NOT_FOUND,
    AlreadyExists: Code.ALREADY_EXISTS,
    FailedPrecondition: Code.FAILED_PRECONDITION,
    Unimplemented: Code.UNIMPLEMENTED,
    Unavailable: Code.UNAVAILABLE,
    GuestFault: Code.INTERNAL,
    HostResource: Code.RESOURCE_EXHAUSTED,
}
log = logging.getLogger(__name__)


def describe_error(error: BaseException) -> StatusError:
    """Never raises.  What is not one of our own errors is a bug, and logged as one."""
    if isinstance(error, StatusError):
        return error
    code = CODES.get(type(error)) if isinstance(error, SampanError) else None
    if code is not None:
        return StatusError(code, str(error))
    log.error("unexpected error", exc_info=error)
    return StatusError(Code.UNKNOWN, f"{type(error).__name__}: {error}")
