"""The errors of the agent, by what the shim can do about them.

    AgentError
    ├── InvalidArgument      the request; names the field and the value
    ├── NotFound             no such container, process or program
    ├── AlreadyExists
    ├── FailedPrecondition   right call, wrong state
    └── RuntimeFailure       crun or the kernel refused; carries crun's own words

One table in agent/server.py maps them to gRPC codes; nothing else knows any.
"""


class AgentError(Exception):
    """Root of the tree; never raised itself."""


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
