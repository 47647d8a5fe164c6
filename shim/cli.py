"""`sampan`: what a person types.

    sampan image build       makes the guest image (package `image`)
    sampan check             whether containers can run here, one line for each need
    sampan counters NS ID    what booting a running sandbox's machine has cost, as JSON
    sampan version

Containers themselves are run through containerd: see shim/bootstrap.py.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from shim.bootstrap import VERSION
from shim.config import load_config
from shim.errors import SampanError
from shim.machine.launch import check_image
from shim.machine.sandbox import list_sandboxes


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan", description="containers in KVM microVMs")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="the guest image", add_help=False)
    commands.add_parser("check", help="whether containers can run here")
    counters = commands.add_parser("counters", help="what a sandbox's boot has cost, as JSON")
    counters.add_argument("namespace", help="containerd's")
    counters.add_argument("id", help="the container's, or its pod's")
    commands.add_parser("version", help="of this program")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["image"]:
        # Its dependencies are only there where images are built.
        from image.cli import main as image_main  # noqa: PLC0415

        return image_main(words[1:])
    options = make_parser().parse_args(words)
    if options.command == "check":
        return run_checks()
    if options.command == "counters":
        return print_counters(options.namespace, options.id)
    print(f"sampan {VERSION}")
    return 0


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


def print_counters(namespace: str, sandbox_id: str) -> int:
    for key, sandbox in list_sandboxes():
        if (key.namespace, key.sandbox_id) != (namespace, sandbox_id):
            continue
        try:
            with open(sandbox.counters, encoding="utf-8") as file:
                print(file.read())
            return 0
        except FileNotFoundError:
            break
    print(f"sampan: no counters of sandbox {sandbox_id!r} in {namespace!r}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
