"""`sampan template`: saved machines that clones are started from.

create           boots a machine and saves it
ensure           the same if a template is wanted; shims run this
ls, verify, rm
"""

import argparse
import sys
from collections.abc import Callable

from shim.config import Config, load_config
from shim.errors import SampanError
from shim.machine.size import MIB, MachineSize
from shim.machine.templates.identity import MachineClass, find_template
from shim.machine.templates.store import (
    get_template,
    list_templates,
    remove_template,
    verify_template,
)


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "template", help="templates: saved machines that clones are started from"
    )
    parser.set_defaults(run=run_template_command)
    commands = parser.add_subparsers(dest="template_command", required=True)
    for name, text in (
        ("create", "boots a machine and saves it"),
        ("ensure", "the same, unless there is one; the least used makes room"),
    ):
        making = commands.add_parser(name, help=text)
        making.add_argument("--vcpus", type=int, help="of the machine; default: as configured")
        making.add_argument("--memory-mib", type=int, help="of the machine; default: as configured")
        making.add_argument("--nics", type=int, help="of the machine; default: as configured")
        if name == "ensure":
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


def run_template_command(options: argparse.Namespace) -> int:
    actions: dict[str, Callable[[argparse.Namespace, Config], None]] = {
        "create": create_template,
        "ensure": ensure_class,
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
    # Imports gRPC, which nothing else here needs.
    from shim.machine.templates.maker import make_template_alone  # noqa: PLC0415

    template = make_template_alone(config, choose_class(options, config))
    print(template.name)


def ensure_class(options: argparse.Namespace, config: Config) -> None:
    from shim.machine.templates.background import ensure_template  # noqa: PLC0415

    ensure_template(config, choose_class(options, config), options.refused)


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
