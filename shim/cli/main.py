"""`sampan`: what a person types.

    sampan image build       makes the guest image (package `image`)
    sampan check             whether containers can run here, one line for each need
    sampan ps                the sandboxes of this host, and what each uses of it
    sampan console ID        what a sandbox's guest has written to its console
    sampan counters NS ID    what booting a running sandbox's machine has cost, as JSON
    sampan template create   boots a machine and saves it as a template for clones
    sampan template ensure    the same if a template is wanted; shims run this
    sampan template ls|verify|rm
    sampan version

Each verb has a file beside this one.  Containers themselves are run through
containerd: see shim/containerd/start.py.
"""

import argparse
import sys
from collections.abc import Sequence

from shim.cli import check, console, counters, ps, template
from shim.version import VERSION


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan", description="containers in KVM microVMs")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="the guest image", add_help=False)
    for verb in (check, ps, console, counters, template):
        verb.add_parser(commands)
    version = commands.add_parser("version", help="of this program")
    version.set_defaults(run=lambda _: print_version())
    return parser


def print_version() -> int:
    print(f"sampan {VERSION}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["image"]:
        # Its dependencies are only there where images are built.
        from image.cli import main as image_main  # noqa: PLC0415

        return image_main(words[1:])
    options = make_parser().parse_args(words)
    status: int = options.run(options)
    return status
