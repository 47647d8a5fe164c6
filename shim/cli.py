"""`sampan`: what a person types.

    sampan image build       makes the guest image (package `image`)
    sampan check             whether containers can run here, one line for each need
    sampan counters NS ID    what booting a running sandbox's machine has cost, as JSON
    sampan template create   saves a machine that has booted, for others to go on from
    sampan template offer    the same where one is wanted: what shims run by themselves
    sampan template ls|verify|rm
    sampan version

Containers themselves are run through containerd: see shim/bootstrap.py.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

from shim.bootstrap import VERSION
from shim.config import Config, load_config
from shim.errors import SampanError
from shim.machine.directory import list_sandboxes
from shim.machine.launch import check_image
from shim.machine.size import MIB, MachineSize
from shim.machine.templates.identity import MachineClass, find_template
from shim.machine.templates.store import (
    get_template,
    list_templates,
    remove_template,
    verify_template,
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan", description="containers in KVM microVMs")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="the guest image", add_help=False)
    commands.add_parser("check", help="whether containers can run here")
    counters = commands.add_parser("counters", help="what a sandbox's boot has cost, as JSON")
    counters.add_argument("namespace", help="containerd's")
    counters.add_argument("id", help="the container's, or its pod's")
    add_template_parser(commands.add_parser("template", help="machines to go on from"))
    commands.add_parser("version", help="of this program")
    return parser


def add_template_parser(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="template_command", required=True)
    for name, text in (
        ("create", "boots a machine and saves it"),
        ("offer", "the same, unless there is one; the least used makes room"),
    ):
        making = commands.add_parser(name, help=text)
        making.add_argument("--vcpus", type=int, help="of the machine; default: as configured")
        making.add_argument("--memory-mib", type=int, help="of the machine; default: as configured")
        making.add_argument("--nics", type=int, help="of the machine; default: as configured")
        if name == "offer":
            making.add_argument(
                "--refused",
                type=int,
                default=0,
                help="instead of the one that was saved then, in nanoseconds",
            )
    commands.add_parser("ls", help="those that there are; `*`: of this host as it is now")
    for name, text in (("verify", "all, or those named: are they as written"), ("rm", "removes")):
        named = commands.add_parser(name, help=text)
        named.add_argument("names", nargs="*" if name == "verify" else "+", metavar="NAME")


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["image"]:
        # Its dependencies are only there where images are built.
        from image.cli import main as image_main  # noqa: PLC0415

        return image_main(words[1:])
    options = make_parser().parse_args(words)
    if options.command == "check":
        return run_checks()
    if options.command == "template":
        return run_template_command(options)
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


def run_template_command(options: argparse.Namespace) -> int:
    actions: dict[str, Callable[[argparse.Namespace, Config], None]] = {
        "create": create_template,
        "offer": offer_class,
        "ls": print_templates,
        "verify": verify_templates,
        "rm": remove_templates,
    }
    try:
        actions[options.template_command](options, load_config())
    except (SampanError, OSError) as error:
        print(f"sampan: {error}", file=sys.stderr)
        return 1
    return 0


def create_template(options: argparse.Namespace, config: Config) -> None:
    # gRPC and all that: nothing else here needs it.
    from shim.machine.templates.maker import make_template  # noqa: PLC0415

    template = asyncio.run(make_template(config, choose_class(options, config)))
    print(template.name)


def offer_class(options: argparse.Namespace, config: Config) -> None:
    from shim.machine.templates.offer import offer_template  # noqa: PLC0415

    offer_template(config, choose_class(options, config), options.refused)


def choose_class(options: argparse.Namespace, config: Config) -> MachineClass:
    size = MachineSize(
        options.vcpus or config.vcpus, (options.memory_mib or config.memory_mib) * MIB
    )
    return MachineClass(size, config.nics if options.nics is None else options.nics)


def print_templates(_: argparse.Namespace, config: Config) -> None:
    for template in list_templates(config):
        described = template.described["class"]
        size = MachineSize(described["vcpus"], described["memory_bytes"])
        used = find_template(config, MachineClass(size, described["nics"])) == template.path
        print(
            f"{template.name} {'*' if used else '-'} vcpus={size.vcpus} "
            f"memory_mib={size.memory_bytes // MIB} nics={described['nics']} "
            f"kernel={described['kernel'][0]}"
        )


def verify_templates(options: argparse.Namespace, config: Config) -> None:
    named = [get_template(config, name) for name in options.names]
    for template in named or list_templates(config):
        verify_template(template)
        print(f"{template.name}: ok")


def remove_templates(options: argparse.Namespace, config: Config) -> None:
    for template in [get_template(config, name) for name in options.names]:
        remove_template(template)


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
