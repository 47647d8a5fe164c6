import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("protocol_version", "kernel_release", "crun_version", "init_started_ns", "listening_ns")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RELEASE_FIELD_NUMBER: _ClassVar[int]
    CRUN_VERSION_FIELD_NUMBER: _ClassVar[int]
    INIT_STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    LISTENING_NS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    kernel_release: str
    crun_version: str
    init_started_ns: int
    listening_ns: int
    def __init__(self, protocol_version: _Optional[int] = ..., kernel_release: _Optional[str] = ..., crun_version: _Optional[str] = ..., init_started_ns: _Optional[int] = ..., listening_ns: _Optional[int] = ...) -> None: ...

class RenewIdentityRequest(_message.Message):
    __slots__ = ("entropy", "realtime_ns", "hostname")
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    entropy: bytes
    realtime_ns: int
    hostname: str
    def __init__(self, entropy: _Optional[bytes] = ..., realtime_ns: _Optional[int] = ..., hostname: _Optional[str] = ...) -> None: ...

class RenewIdentityResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadClockRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadClockResponse(_message.Message):
    __slots__ = ("realtime_ns", "kept")
    REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    realtime_ns: int
    kept: bool
    def __init__(self, realtime_ns: _Optional[int] = ..., kept: _Optional[bool] = ...) -> None: ...

class CorrectClockRequest(_message.Message):
    __slots__ = ("offset_ns", "error_ns", "step", "time_constant")
    OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_NS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TIME_CONSTANT_FIELD_NUMBER: _ClassVar[int]
    offset_ns: int
    error_ns: int
    step: bool
    time_constant: int
    def __init__(self, offset_ns: _Optional[int] = ..., error_ns: _Optional[int] = ..., step: _Optional[bool] = ..., time_constant: _Optional[int] = ...) -> None: ...

class CorrectClockResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConfigureNetworkRequest(_message.Message):
    __slots__ = ("nics", "gone")
    NICS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    nics: _containers.RepeatedCompositeFieldContainer[Nic]
    gone: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, nics: _Optional[_Iterable[_Union[Nic, _Mapping]]] = ..., gone: _Optional[_Iterable[int]] = ...) -> None: ...

class ConfigureNetworkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Nic(_message.Message):
    __slots__ = ("nic", "name", "mac", "mtu", "addresses", "routes", "neighbours")
    NIC_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    nic: int
    name: str
    mac: str
    mtu: int
    addresses: _containers.RepeatedCompositeFieldContainer[NicAddress]
    routes: _containers.RepeatedCompositeFieldContainer[NicRoute]
    neighbours: _containers.RepeatedCompositeFieldContainer[NicNeighbour]
    def __init__(self, nic: _Optional[int] = ..., name: _Optional[str] = ..., mac: _Optional[str] = ..., mtu: _Optional[int] = ..., addresses: _Optional[_Iterable[_Union[NicAddress, _Mapping]]] = ..., routes: _Optional[_Iterable[_Union[NicRoute, _Mapping]]] = ..., neighbours: _Optional[_Iterable[_Union[NicNeighbour, _Mapping]]] = ...) -> None: ...

class NicAddress(_message.Message):
    __slots__ = ("address", "prefix_length", "broadcast")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PREFIX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_FIELD_NUMBER: _ClassVar[int]
    address: str
    prefix_length: int
    broadcast: str
    def __init__(self, address: _Optional[str] = ..., prefix_length: _Optional[int] = ..., broadcast: _Optional[str] = ...) -> None: ...

class NicRoute(_message.Message):
    __slots__ = ("network", "gateway", "source", "scope", "metric", "onlink", "family")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    ONLINK_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    network: str
    gateway: str
    source: str
    scope: str
    metric: int
    onlink: bool
    family: int
    def __init__(self, network: _Optional[str] = ..., gateway: _Optional[str] = ..., source: _Optional[str] = ..., scope: _Optional[str] = ..., metric: _Optional[int] = ..., onlink: _Optional[bool] = ..., family: _Optional[int] = ...) -> None: ...

class NicNeighbour(_message.Message):
    __slots__ = ("address", "mac")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    address: str
    mac: str
    def __init__(self, address: _Optional[str] = ..., mac: _Optional[str] = ...) -> None: ...

class ServeNamesRequest(_message.Message):
    __slots__ = ("address", "question_token", "answer_token")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    address: str
    question_token: str
    answer_token: str
    def __init__(self, address: _Optional[str] = ..., question_token: _Optional[str] = ..., answer_token: _Optional[str] = ...) -> None: ...

class ServeNamesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ForwardRequest(_message.Message):
    __slots__ = ("port", "to_guest_token", "from_guest_token")
    PORT_FIELD_NUMBER: _ClassVar[int]
    TO_GUEST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FROM_GUEST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    port: int
    to_guest_token: str
    from_guest_token: str
    def __init__(self, port: _Optional[int] = ..., to_guest_token: _Optional[str] = ..., from_guest_token: _Optional[str] = ...) -> None: ...

class ForwardResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ContainerRef(_message.Message):
    __slots__ = ("container_id",)
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    def __init__(self, container_id: _Optional[str] = ...) -> None: ...

class ProcessRef(_message.Message):
    __slots__ = ("container_id", "exec_id")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    EXEC_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    exec_id: str
    def __init__(self, container_id: _Optional[str] = ..., exec_id: _Optional[str] = ...) -> None: ...

class Stdio(_message.Message):
    __slots__ = ("terminal", "stdin_token", "stdout_token", "stderr_token")
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    STDIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STDOUT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STDERR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    terminal: bool
    stdin_token: str
    stdout_token: str
    stderr_token: str
    def __init__(self, terminal: _Optional[bool] = ..., stdin_token: _Optional[str] = ..., stdout_token: _Optional[str] = ..., stderr_token: _Optional[str] = ...) -> None: ...

class CreateContainerRequest(_message.Message):
    __slots__ = ("container_id", "spec_json", "stdio")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    STDIO_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    spec_json: bytes
    stdio: Stdio
    def __init__(self, container_id: _Optional[str] = ..., spec_json: _Optional[bytes] = ..., stdio: _Optional[_Union[Stdio, _Mapping]] = ...) -> None: ...

class CreateContainerResponse(_message.Message):
    __slots__ = ("guest_pid",)
    GUEST_PID_FIELD_NUMBER: _ClassVar[int]
    guest_pid: int
    def __init__(self, guest_pid: _Optional[int] = ...) -> None: ...

class AddExecRequest(_message.Message):
    __slots__ = ("container_id", "exec_id", "process_json", "stdio")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    EXEC_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_JSON_FIELD_NUMBER: _ClassVar[int]
    STDIO_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    exec_id: str
    process_json: bytes
    stdio: Stdio
    def __init__(self, container_id: _Optional[str] = ..., exec_id: _Optional[str] = ..., process_json: _Optional[bytes] = ..., stdio: _Optional[_Union[Stdio, _Mapping]] = ...) -> None: ...

class AddExecResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartProcessResponse(_message.Message):
    __slots__ = ("guest_pid",)
    GUEST_PID_FIELD_NUMBER: _ClassVar[int]
    guest_pid: int
    def __init__(self, guest_pid: _Optional[int] = ...) -> None: ...

class ProcessExit(_message.Message):
    __slots__ = ("exit_status", "exited_at")
    EXIT_STATUS_FIELD_NUMBER: _ClassVar[int]
    EXITED_AT_FIELD_NUMBER: _ClassVar[int]
    exit_status: int
    exited_at: _timestamp_pb2.Timestamp
    def __init__(self, exit_status: _Optional[int] = ..., exited_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SignalProcessRequest(_message.Message):
    __slots__ = ("process", "signal", "all")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    process: ProcessRef
    signal: int
    all: bool
    def __init__(self, process: _Optional[_Union[ProcessRef, _Mapping]] = ..., signal: _Optional[int] = ..., all: _Optional[bool] = ...) -> None: ...

class SignalProcessResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResizeTerminalRequest(_message.Message):
    __slots__ = ("process", "columns", "rows")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    process: ProcessRef
    columns: int
    rows: int
    def __init__(self, process: _Optional[_Union[ProcessRef, _Mapping]] = ..., columns: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class ResizeTerminalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseContainerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeContainerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UpdateContainerRequest(_message.Message):
    __slots__ = ("container_id", "resources_json")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_JSON_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    resources_json: bytes
    def __init__(self, container_id: _Optional[str] = ..., resources_json: _Optional[bytes] = ...) -> None: ...

class UpdateContainerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("files",)
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StatFile
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StatFile, _Mapping]] = ...) -> None: ...
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.MessageMap[str, StatFile]
    def __init__(self, files: _Optional[_Mapping[str, StatFile]] = ...) -> None: ...

class StatFile(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, int]
    def __init__(self, values: _Optional[_Mapping[str, int]] = ...) -> None: ...

class WatchProcess(_message.Message):
    __slots__ = ("watch", "process", "oom_kills")
    WATCH_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLS_FIELD_NUMBER: _ClassVar[int]
    watch: int
    process: ProcessRef
    oom_kills: int
    def __init__(self, watch: _Optional[int] = ..., process: _Optional[_Union[ProcessRef, _Mapping]] = ..., oom_kills: _Optional[int] = ...) -> None: ...

class ProcessEvent(_message.Message):
    __slots__ = ("watch", "exited", "out_of_memory", "not_found")
    WATCH_FIELD_NUMBER: _ClassVar[int]
    EXITED_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    NOT_FOUND_FIELD_NUMBER: _ClassVar[int]
    watch: int
    exited: ProcessExit
    out_of_memory: OutOfMemory
    not_found: str
    def __init__(self, watch: _Optional[int] = ..., exited: _Optional[_Union[ProcessExit, _Mapping]] = ..., out_of_memory: _Optional[_Union[OutOfMemory, _Mapping]] = ..., not_found: _Optional[str] = ...) -> None: ...

class OutOfMemory(_message.Message):
    __slots__ = ("oom_kills",)
    OOM_KILLS_FIELD_NUMBER: _ClassVar[int]
    oom_kills: int
    def __init__(self, oom_kills: _Optional[int] = ...) -> None: ...
