"""The command lines of `run` and `shell`, and the order in which a run is made."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from tests.capabilities import probe_kvm
from tests.testhost.base import provide_base
from tests.testhost.cache import cache_directory
from tests.testhost.clients import CLIENTS, provide_clients
from tests.testhost.containerd import PLACE, SUITES, provide_containerd
from tests.testhost.emulated import EmulatedHost
from tests.testhost.guest_image import DEBIAN, KERNELS, provide_guest_image
from tests.testhost.host import Built, Host
from tests.testhost.lock import machine_lock
from tests.testhost.log import say
from tests.testhost.mirror import MirrorError
from tests.testhost.session import HostFailure, Job, RawTerminal
from tests.testhost.this_machine import ThisMachine, why_not_here
from tests.testhost.tools import ToolError, install_qemu, install_tools
from tests.testhost.transfer import TransferError, pack_puts, unpack_gets
from tests.testhost.tree import REPOSITORY, provide_tree

SETUP_FAILED = 98
HOST_FAILED = 99
ATTEMPTS = 2
PASSED_PREFIXES = ("SAMPAN_", "REQUIRE_", "PYTEST_")
PASSED_NAMES = ("CI", "TERM")
STATUSES = """\
exit status: the command's own; 124 it ran into --timeout; 98 the host could not be
prepared; 99 the host itself died or hung, twice.
"""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/testhost/run",
        description="Run COMMAND as root on a machine with a working KVM and this tree installed.",
        epilog=STATUSES,
    )
    parser.add_argument("--mem", type=int, default=6144, metavar="MiB")
    parser.add_argument("--timeout", type=float, metavar="S")
    parser.add_argument(
        "--put", action="append", default=[], type=split_put, metavar="LOCAL:REMOTE"
    )
    parser.add_argument(
        "--get", action="append", default=[], type=split_get, metavar="REMOTE:LOCAL"
    )
    parser.add_argument(
        "--bare", action="store_true", help="the tree and its packages; no containerd"
    )
    parser.add_argument(
        "--containerd", choices=SUITES, metavar="VERSION", help="instead of the base's"
    )
    parser.add_argument("--clients", choices=CLIENTS, help="with the programs of this client")
    parser.add_argument(
        "--kernel", choices=KERNELS, default=DEBIAN, help="the guest image's (default: debian)"
    )
    parser.add_argument(
        "--beside",
        metavar="NAME",
        help="an emulated host at the same time as others with a NAME; its console is NAME.log",
    )
    parser.add_argument("--stdin", action="store_true", help="pass stdin on")
    parser.add_argument("--tty", action="store_true", help="give COMMAND this terminal")
    parser.add_argument("--where", choices=("auto", "here", "emulated"), default="auto")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args(arguments)


def split_put(text: str) -> tuple[Path, str]:
    local, _, remote = text.rpartition(":")
    if not local or not remote.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not LOCAL:/REMOTE")
    return Path(local), remote


def split_get(text: str) -> tuple[str, Path]:
    remote, _, local = text.partition(":")
    if not remote.startswith("/") or not local:
        raise argparse.ArgumentTypeError(f"{text!r} is not /REMOTE:LOCAL")
    return remote, Path(local)


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # root by plain su has neither
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if os.geteuid() != 0:
        say("needs root")
        return SETUP_FAILED
    try:
        return run(options)
    except (ToolError, MirrorError, TransferError) as error:
        say(str(error))
    except subprocess.CalledProcessError as error:
        say(f"{error.cmd[0]} failed ({error.returncode}); the end of what it said is above")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return SETUP_FAILED


def run(options: argparse.Namespace) -> int:
    install_tools()
    here = use_this_machine(options.where)
    if not here:
        install_qemu()
    build = partial(provide_build, bare=options.bare, kernel=options.kernel)
    with machine_lock("build"):
        build()
    # Others may build while one runs.  What was built is looked up again under the
    # run's lock: it may have been pruned while this run waited.
    shared = bool(options.beside) and not here
    with machine_lock("run", shared=shared), scratch_directory() as scratch:
        with machine_lock("build"):
            built = build()
        return run_job(options, scratch, built, here=here)


def use_this_machine(where: str) -> bool:
    if where != "auto":
        return where == "here"
    unusable = probe_kvm() or why_not_here()
    say(f"{unusable}; emulating a host" if unusable else "this machine's KVM runs Linux guests")
    return not unusable


def provide_build(*, bare: bool, kernel: str) -> Built:
    base = provide_base(REPOSITORY)
    guest = provide_guest_image(base, bare=bare, kernel=kernel)
    return Built(base, provide_tree(base, bare=bare).image, guest)


def run_job(options: argparse.Namespace, scratch: Path, built: Built, *, here: bool) -> int:
    puts, stream = scratch / "puts.tar", scratch / "gets.tar"
    if options.containerd:
        options.put.append((provide_containerd(options.containerd), PLACE))
    if options.clients:
        options.put += provide_clients(options.clients)
    pack_puts(options.put, puts)
    if here:
        host: Host = ThisMachine(built, scratch, puts)
    else:
        console = cache_directory() / f"{options.beside or 'console'}.log"  # kept after the run
        host = EmulatedHost(built, scratch, puts, console, options.mem)
    job = make_job(options, host.puts_inside)
    attempts = 1 if job.stdin else ATTEMPTS  # what was typed is gone
    for attempt in range(1, attempts + 1):
        try:
            with stream.open("wb") as files, RawTerminal() if options.tty else nullcontext():
                status = host.run(job, files, options.timeout)
            break
        except HostFailure as failure:
            say(f"HOST FAILURE (attempt {attempt} of {attempts}): {failure}")
    else:
        return HOST_FAILED
    for missing in unpack_gets(stream, options.get):
        say(f"--get {missing}: did not come")
        status = status or 1
    return status


def make_job(options: argparse.Namespace, puts_inside: str) -> Job:
    env = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }
    return Job(
        argv=options.command,
        env=env,
        put=puts_inside if options.put else "",
        get=[remote for remote, _ in options.get],
        terminal=options.tty,
        stdin=options.stdin or options.tty,
        bare=options.bare,
        programs=PLACE if options.containerd else "",
    )


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Below the cache: what the host writes to its disks can be gigabytes."""
    cache = cache_directory()
    for leftover in cache.glob("run-*"):  # of a run that was killed
        if not Path("/proc", leftover.name.split("-")[1]).exists():
            shutil.rmtree(leftover, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=cache))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
