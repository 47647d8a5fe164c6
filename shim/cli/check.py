"""`sampan check`: whether containers can run here, one line for each need."""

import argparse
import json
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from shim.config import Config, load_config
from shim.errors import SampanError
from shim.host.cgroup import is_unified
from shim.host.vhost import VHOST_NET
from shim.machine.launch import check_image

OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"


class Finding(NamedTuple):
    """One need of a host."""

    need: str
    state: str
    """OK; WARNING, containers run without it; FAILED, they do not."""
    found: str = ""
    remedy: str = ""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("check", help="whether containers can run here")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(run=lambda options: run_checks(as_json=options.json))


def run_checks(*, as_json: bool) -> int:
    """Prints every answer; fails when a need is not met."""
    findings = find_all(load_config())
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            print(render(finding))
    return 1 if any(finding.state == FAILED for finding in findings) else 0


def render(finding: Finding) -> str:
    if finding.state == OK:
        return f"{finding.need}: ok"
    return f"{finding.need}: {finding.state}: {finding.found}; {finding.remedy}"


def find_all(config: Config) -> list[Finding]:
    return [
        judge("kvm", check_kvm, "use a host with hardware virtualization (vmx or svm)"),
        judge("image", lambda: check_image(config), "sampan image build"),
        find_cgroup(config),
        find_vhost(config),
    ]


def judge(need: str, check: Callable[[], None], remedy: str) -> Finding:
    try:
        check()
    except SampanError as error:
        return Finding(need, FAILED, str(error), remedy)
    return Finding(need, OK)


def check_kvm() -> None:
    # The compiled layer: only the vmm and this need it.
    from shim.vmm.kvm.system import KvmSystem  # noqa: PLC0415

    KvmSystem().close()


def find_cgroup(config: Config) -> Finding:
    if is_unified():
        return Finding("cgroup", OK)
    if config.host_cgroup == "never":
        found = "host_cgroup: never: nothing on the host bounds what a machine uses"
        return Finding("cgroup", WARNING, found, "boot with cgroup v2")
    remedy = "boot with cgroup v2, or set host_cgroup: never"
    return Finding("cgroup", FAILED, "this host has cgroup v1", remedy)


def find_vhost(config: Config) -> Finding:
    if config.vhost_net == "never" or os.access(VHOST_NET, os.R_OK | os.W_OK):
        return Finding("vhost-net", OK)
    found = f"{VHOST_NET} cannot be opened: the vmm moves packets itself, which takes more CPU"
    return Finding("vhost-net", WARNING, found, "modprobe vhost_net")
