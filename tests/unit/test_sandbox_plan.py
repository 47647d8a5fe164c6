"""Whose template a container is started from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shim.config import Config
from shim.errors import InvalidArgument
from shim.machine.prewarmed import name_prewarmed
from shim.machine.templates.identity import describe_class, name_class
from shim.oci.annotations import POD_NAMESPACE_ANNOTATION
from shim.sandbox.plan import MachinePlan, plan_machine

SHARED = Config(templates="never", host_cgroup="never")
SEPARATE = replace(SHARED, template_scope="namespace")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_spec(tmp_path, {})
    return tmp_path


def write_spec(bundle: Path, annotations: dict[str, str]) -> None:
    spec = {
        "ociVersion": "1.2.0",
        "process": {"args": ["true"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "annotations": annotations,
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
    }
    (bundle / "config.json").write_text(json.dumps(spec))


def plan(bundle: Path, config: Config, tenant: str) -> MachinePlan:
    return plan_machine(str(bundle), config, tenant)


def test_all_namespaces_share_a_template_unless_the_configuration_says_otherwise(
    bundle: Path,
) -> None:
    one, other = (plan(bundle, SHARED, tenant) for tenant in ("one", "other"))
    assert one.machine_class == other.machine_class


def test_namespaces_have_templates_and_prewarmed_machines_of_their_own(
    bundle: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    (image / "root").mkdir(parents=True)
    (image / "vmlinux").touch()
    config = replace(SEPARATE, image_dir=str(image))
    classes = [plan(bundle, config, tenant).machine_class for tenant in ("one", "other", "one")]
    templates = [name_class(describe_class(config, each)) for each in classes]
    machines = [name_prewarmed(config, each, "") for each in classes]
    for names in (templates, machines):
        assert names[0] != names[1]
        assert names[0] == names[2]


def test_namespaces_of_kubernetes_are_told_apart(bundle: Path) -> None:
    """All pods are in one namespace of containerd's, k8s.io."""
    scopes = set()
    for pod in ("team-a", "team-b"):
        write_spec(bundle, {POD_NAMESPACE_ANNOTATION: pod})
        scopes.add(plan(bundle, SEPARATE, "k8s.io").machine_class.scope)
    assert scopes == {"k8s.io/team-a", "k8s.io/team-b"}


@pytest.mark.parametrize("name", ["a/b", "a\n", "x" * 254])
def test_what_is_no_name_of_a_namespace_is_refused(bundle: Path, name: str) -> None:
    """It would be the scope of another tenant."""
    write_spec(bundle, {POD_NAMESPACE_ANNOTATION: name})
    with pytest.raises(InvalidArgument, match=r"sandbox-namespace'\]: expected the name of"):
        plan(bundle, SEPARATE, "k8s.io")
