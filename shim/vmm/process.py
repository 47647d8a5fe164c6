"""The vmm process: one machine, driven over the control socket.

Started by the shim as `python -m shim.vmm.process` with the socket as fd
CONTROL_FD.  One thread, one poll loop over three descriptors: requests, the
machine's end, the ends of streams; the guest's I/O runs in C threads, which
this loop never waits for.  No asyncio, no gRPC: their import alone would take
longer than booting.

Life: start → boot (or prewarm, start) → … → control socket closed or `stop` → machine torn down →
exit.  A guest that ends by itself is reported; the process stays, with its
counters and output that is in flight, until the shim ends it.
"""

import os
import resource
import select
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from proto.control import (
    CONTROL_FD,
    Event,
    JailMode,
    MachineConfig,
    NicArgs,
    Operation,
    StoppedEvent,
    StopReason,
    StreamArgs,
)
from shim.errors import (
    FailedPrecondition,
    HostResource,
    InvalidArgument,
    SampanError,
    Unimplemented,
)
from shim.host.fds import close_all
from shim.vmm.builder import boot_machine, clone_machine, close_rest
from shim.vmm.control import ControlChannel, MalformedPacket, Request
from shim.vmm.host_files import HostFiles
from shim.vmm.jail.jail import Jail
from shim.vmm.machine import Machine
from shim.vmm.stopwatch import Stopwatch

PROCESS_NAME: Final = "sampan-vmm"
STDERR_FD: Final = 2


class Vmm:
    """Owns the machine.  `run` returns when the shim no longer needs it; `close` after."""

    def __init__(self, channel: ControlChannel) -> None:
        self.channel = channel
        self.machine: Machine | None = None
        self.jail: Jail | None = None
        self.prewarmed = False
        """The machine is prewarmed: a clone that waits for START."""
        self.stopping = False
        self.end_reported = False
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.operations: dict[str, Callable[[Request], dict[str, Any]]] = {
            Operation.BOOT: self.boot,
            Operation.PREWARM: self.prewarm,
            Operation.START: self.start,
            Operation.OPEN_STREAM: self.open_stream,
            Operation.ATTACH_NIC: self.attach_nic,
            Operation.SAVE: self.save,
            Operation.SAVE_WORKING_SET: self.save_working_set,
            Operation.COUNTERS: self.counters,
            Operation.STOP: self.stop,
        }

    def run(self) -> None:
        self.watch(self.channel.socket.fileno(), self.serve_request)
        while not self.stopping:
            for fd, _ in self.poll.poll():
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()

    def close(self) -> None:
        if self.machine is not None:
            self.machine.close()
            self.machine = None

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    # --- requests ------------------------------------------------------------------------

    def serve_request(self) -> None:
        try:
            request = self.channel.receive()
        except MalformedPacket as error:
            self.channel.refuse(error.id, InvalidArgument(f"control: {error}"))
            return
        if request is None:
            self.stopping = True
            return
        with request:
            try:
                result = self.dispatch(request)
            except SampanError as error:
                self.channel.refuse(request.id, error)
            else:
                self.channel.answer(request.id, result)

    def dispatch(self, request: Request) -> dict[str, Any]:
        operation = self.operations.get(request.operation)
        if operation is None:
            raise Unimplemented(f"control: no operation {request.operation!r}")
        try:
            return operation(request)
        except SampanError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidArgument(f"control: {request.operation}: {error!r}") from error
        except Exception as error:
            log_unexpected(error)
            raise HostResource(f"vmm: {request.operation}: {error}") from error

    def boot(self, request: Request) -> dict[str, Any]:
        with self.prepare(request, clones=False) as prepared:
            machine, watch = build_machine(prepared, self.jail)
        self.take(machine)
        if self.jail is not None:
            self.jail.restrict()
        watch.lap("restrict")
        return machine.start(watch)._asdict()

    def prewarm(self, request: Request) -> dict[str, Any]:
        with self.prepare(request, clones=True) as prepared:
            config, files = prepared.config, prepared.files
            self.take(
                clone_machine(config, prepared.take_listeners(), files, self.jail, Stopwatch())
            )
        self.prewarmed = True
        return {}

    @contextmanager
    def prepare(self, request: Request, clones: bool) -> Iterator["Prepared"]:
        """Opens the host's files, and enters the jail, if there is to be one.

        `clones`: the machine is restored from its template, and never boots."""
        if self.machine is not None or self.jail is not None:
            raise FailedPrecondition("the machine is already booted")
        config = MachineConfig.from_json(request.arguments)
        prepared = Prepared(config, request.take_fds(len(config.ports) + bool(config.root_path)))
        try:
            with HostFiles(config, clones) as prepared.files:
                if config.root_path:
                    self.jail = Jail(JailMode(config.jail), config.saves)
                    self.jail.enter(prepared.fds[-1], config.image_path, config.root_path)
                yield prepared
        finally:
            close_all(prepared.fds)

    def start(self, request: Request) -> dict[str, Any]:
        """Starts a prewarmed machine, in its sandbox's network namespace and with its log."""
        machine = self.booted()
        if not self.prewarmed:
            raise FailedPrecondition("the machine is not prewarmed")
        log_fd, *namespace = request.fds
        os.dup2(log_fd, STDERR_FD)
        machine.rewind()
        self.prewarmed = False
        if self.jail is not None:
            self.jail.restrict(*namespace)
        return machine.start(Stopwatch())._asdict()

    def take(self, machine: Machine) -> None:
        self.machine = machine
        self.watch(machine.events_fd, self.report_events)
        self.watch(machine.streams_fd, self.report_streams_closed)

    def open_stream(self, request: Request) -> dict[str, Any]:
        machine = self.booted()
        arguments = StreamArgs(**request.arguments)
        with request.taken_fds(1) as (fd,):
            machine.open_stream(arguments, fd)
        return {}

    def attach_nic(self, request: Request) -> dict[str, Any]:
        machine = self.booted()
        arguments = NicArgs(**request.arguments)
        with request.taken_fds(len(request.fds)) as fds:
            machine.attach_nic(arguments, fds)
        return {}

    def save(self, request: Request) -> dict[str, Any]:
        memory_fd, state_fd = request.borrow_fds(2)
        self.booted().save(memory_fd, state_fd)
        return {}

    def save_working_set(self, request: Request) -> dict[str, Any]:
        (fd,) = request.borrow_fds(1)
        self.booted().save_working_set(fd)
        return {}

    def counters(self, _: Request) -> dict[str, Any]:
        return self.booted().read_counters()

    def stop(self, _: Request) -> dict[str, Any]:
        """Frees the machine's memory and files before it answers."""
        machine = self.booted()
        self.unwatch(machine.events_fd)
        self.unwatch(machine.streams_fd)
        self.close()
        if not self.end_reported:
            self.report_end(StoppedEvent(StopReason.REQUESTED, ""))
        self.stopping = True
        return {}

    def booted(self) -> Machine:
        if self.machine is None:
            raise FailedPrecondition("no machine is booted")
        return self.machine

    # --- events --------------------------------------------------------------------------

    def report_events(self) -> None:
        """Faults of devices also cause this call; the end comes once."""
        machine = self.booted()
        stopped, faults = machine.read_events()
        for fault in faults:
            log_error(fault)
        if stopped is not None:
            self.unwatch(machine.events_fd)
            self.report_end(stopped)

    def report_end(self, stopped: StoppedEvent) -> None:
        self.end_reported = True
        self.channel.send_event(Event.STOPPED, stopped._asdict())

    def report_streams_closed(self) -> None:
        for closed in self.booted().read_closed_streams():
            self.channel.send_event(Event.STREAM_CLOSED, closed._asdict())


class Prepared:
    """What a machine is built from."""

    files: HostFiles

    def __init__(self, config: MachineConfig, fds: list[int]) -> None:
        self.config = config
        self.fds = fds

    def take_listeners(self) -> list[int]:
        """The caller owns them from now on."""
        count = len(self.config.ports)
        taken, self.fds = self.fds[:count], self.fds[count:]
        return taken


def build_machine(prepared: Prepared, jail: Jail | None) -> tuple[Machine, Stopwatch]:
    """With a template that cannot be used, the machine boots: that only costs time."""
    config, files = prepared.config, prepared.files
    listeners = prepared.take_listeners()
    if config.template:
        spare = [os.dup(fd) for fd in listeners]
        watch = Stopwatch()
        try:
            cloned = clone_machine(config, spare, files, jail, watch)
        except (SampanError, OSError) as error:
            log_error(f"template {config.template}: {error}; booting instead")
        except Exception as error:
            log_unexpected(error)
        except BaseException:
            close_rest(listeners)
            raise
        else:
            close_rest(listeners)
            return cloned, watch
    watch = Stopwatch()
    return boot_machine(config, listeners, files, jail, watch), watch


def open_control_socket() -> socket.socket:
    """Takes over fd CONTROL_FD."""
    try:
        control = socket.socket(fileno=CONTROL_FD)
    except OSError as error:
        raise SystemExit(f"{PROCESS_NAME}: fd {CONTROL_FD} is no socket: {error}") from error
    if control.family != socket.AF_UNIX or control.type != socket.SOCK_SEQPACKET:
        raise SystemExit(f"{PROCESS_NAME}: fd {CONTROL_FD} is no SOCK_SEQPACKET unix socket")
    os.set_inheritable(CONTROL_FD, False)
    return control


def log_error(text: str) -> None:
    """To the shim's log, which may be full or have no reader: then the line is lost."""
    with suppress(OSError):
        os.write(STDERR_FD, f"{PROCESS_NAME}: {text}\n".encode())


def log_unexpected(error: Exception) -> None:
    log_error("".join(traceback.format_exception(error)))


def raise_descriptor_limit() -> None:
    """The file server holds one descriptor for each file that the guest knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/proc/sys/fs/nr_open") as file:
        limit = max(hard, int(file.read()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    except (ValueError, OSError):  # no CAP_SYS_RESOURCE
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    with open("/proc/self/comm", "w") as comm:
        comm.write(PROCESS_NAME)
    raise_descriptor_limit()
    with open_control_socket() as control:
        vmm = Vmm(ControlChannel(control))
        try:
            vmm.run()
        finally:
            vmm.close()


if __name__ == "__main__":
    main()
