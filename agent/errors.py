"""The errors of the agent, by what the shim can do about them.

AgentError ├── InvalidArgument      the request is wrong; names the field and the
value ├── NotFound             no such container, process or program ├──
AlreadyExists ├── FailedPrecondition   right call, wrong state └── RuntimeFailure
crun or the kernel refused; carries crun's message

One table in agent/rpc.py maps them to gRPC codes; no other code knows those.
"""


class AgentError(Exception):
    """Base class; never raised itself."""


class InvalidArgument(AgentError):
    pass


class NotFound(AgentError):
    pass


class AlreadyExists(AgentError):
    pass


class FailedPrecondition(AgentError):
    pass


class RuntimeFailure(AgentError):
    pass
