"""`sampan counters NS ID`: what booting a running sandbox's machine has cost, as JSON."""

import argparse
import sys

from shim.machine.directory import list_sandboxes


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("counters", help="what a sandbox's boot has cost, as JSON")
    parser.add_argument("namespace", help="containerd's")
    parser.add_argument("id", help="the container's, or its pod's")
    parser.set_defaults(run=lambda options: print_counters(options.namespace, options.id))


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
