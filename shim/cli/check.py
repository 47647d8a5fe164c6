"""`sampan check`: whether containers can run here, one line for each need."""

import argparse
from collections.abc import Callable

from shim.config import load_config
from shim.errors import SampanError
from shim.machine.launch import check_image


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("check", help="whether containers can run here")
    parser.set_defaults(run=lambda _: run_checks())


def run_checks() -> int:
    """Prints every answer; fails when one of them is no."""
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("kvm", check_kvm),
        ("image", check_files),
    )
    status = 0
    for name, check in checks:
        try:
            check()
            print(f"{name}: ok")
        except SampanError as error:
            print(f"{name}: {error}")
            status = 1
    return status


def check_kvm() -> None:
    # The compiled layer: only the vmm and this need it.
    from shim.vmm.kvm.system import KvmSystem  # noqa: PLC0415

    KvmSystem().close()


def check_files() -> None:
    check_image(load_config())
