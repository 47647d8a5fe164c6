"""The host's side of network tests: its commands, and networks by plain CNI configuration.

A network is a list of plugins that are run one after another as the CNI
specification 1.0.0 says (§2 parameters, §4 order of a list); no CNI library.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLUGINS = Path("/usr/lib/cni")
"""Debian's."""
VERSION = "1.0.0"
Plugin = dict[str, Any]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run_ip(*lines: str) -> None:
    for line in lines:
        run("ip", *line.split())


def fetch(url: str, namespace: str = "") -> str:
    """The SHA-256 of what the URL serves."""
    script = (
        "import hashlib, urllib.request as r;"
        f"print(hashlib.sha256(r.urlopen({url!r}, timeout=120).read()).hexdigest())"
    )
    enter = ("ip", "netns", "exec", namespace) if namespace else ()
    return run(*enter, "python3", "-c", script).strip()


@contextmanager
def made_namespace(name: str) -> Iterator[str]:
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "delete", name)


@dataclass(frozen=True)
class CniNetwork:
    """`runtime` has values of capabilities, by name."""

    name: str
    plugins: Sequence[Plugin]
    interface: str = "eth0"
    runtime: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def attached(self, namespace: str) -> Iterator[list[str]]:
        """The addresses that the namespace has got, without their prefix lengths."""
        result: dict[str, Any] | None = None
        with ExitStack() as stack:
            for plugin in self.plugins:
                stack.callback(self._call, "DEL", plugin, namespace, result)
                result = json.loads(self._call("ADD", plugin, namespace, result))
            assert result is not None
            yield [entry["address"].split("/")[0] for entry in result["ips"]]

    def _call(
        self, command: str, plugin: Plugin, namespace: str, result: dict[str, Any] | None
    ) -> str:
        document: dict[str, Any] = {"cniVersion": VERSION, "name": self.name, **plugin}
        wanted = {key: self.runtime[key] for key in plugin.get("capabilities", {})}
        if wanted:
            document["runtimeConfig"] = wanted
        if result is not None:
            document["prevResult"] = result
        parameters = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": namespace,
            "CNI_NETNS": f"/run/netns/{namespace}",
            "CNI_IFNAME": self.interface,
            "CNI_PATH": str(PLUGINS),
        }
        done = subprocess.run(
            [PLUGINS / plugin["type"]],
            input=json.dumps(document),
            env={"PATH": os.environ["PATH"], **parameters},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} {plugin}: {done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def attached(namespace: str, networks: Iterable[CniNetwork]) -> Iterator[list[str]]:
    """A new namespace with every one of them; all addresses, in that order."""
    with made_namespace(namespace), ExitStack() as stack:
        yield [
            address
            for network in networks
            for address in stack.enter_context(network.attached(namespace))
        ]
