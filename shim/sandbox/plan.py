"""Which machine a bundle's container needs, decided before there is one."""

import os
from typing import Any, NamedTuple

from shim.config import Config
from shim.errors import HostResource, NotFound
from shim.machine.bounds import HostBounds
from shim.machine.namespace import count_nics
from shim.machine.size import MIB, MachineSize, SizeRules, size_machine
from shim.machine.templates.identity import MachineClass, use_template
from shim.oci.annotations import find_tenant
from shim.oci.cgroup import find_cgroup, limit_processors
from shim.oci.spec import MAX_SPEC_BYTES, find_network, parse_spec


class MachinePlan(NamedTuple):
    machine_class: MachineClass
    network_path: str | None
    """That of the network namespace: "" for a new one, None for no network."""
    template: str
    """The one to restore; "" to boot."""
    bounds: HostBounds
    host_paths: tuple[str, ...]
    """Paths of the host that the container uses: its namespace, sources of its mounts."""


def plan_machine(bundle: str, config: Config, tenant: str) -> MachinePlan:
    """`tenant`: whose container it is, as its front end tells them apart."""
    spec = parse_spec(read_spec(bundle))
    rules = SizeRules(
        vcpus=config.vcpus,
        max_vcpus=min(config.max_vcpus, len(os.sched_getaffinity(0))),
        memory_mib=config.memory_mib,
        memory_overhead_mib=config.memory_overhead_mib,
        max_memory_mib=config.max_memory_mib,
    )
    size = size_machine(spec, rules)
    network_path = find_network(spec)
    annotations = spec.get("annotations") or {}
    scope = find_tenant(tenant, annotations) if config.template_scope == "namespace" else ""
    machine_class = MachineClass(size, count_nics(network_path, config), scope)
    template = "" if config.templates == "never" else use_template(config, machine_class)
    sources = (mount.get("source") or "" for mount in spec.get("mounts") or [])
    host_paths = [path for path in (network_path or "", *sources) if path.startswith("/")]
    bounds = plan_bounds(spec, size, config)
    return MachinePlan(machine_class, network_path, template, bounds, tuple(host_paths))


def plan_bounds(spec: dict[str, Any], size: MachineSize, config: Config) -> HostBounds:
    if config.host_cgroup == "never":
        return HostBounds("", {})
    memory_bytes = size.memory_bytes + config.host_overhead_mib * MIB
    limits = {**limit_processors(spec), "memory.max": str(memory_bytes)}
    return HostBounds(find_cgroup(spec), limits)


def read_spec(bundle: str) -> bytes:
    path = f"{bundle}/config.json"
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        category = NotFound if isinstance(error, FileNotFoundError) else HostResource
        raise category(f"{path}: {error.strerror}") from error
