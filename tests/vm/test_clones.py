"""What clones of one template share, and what each has to itself (docs/security.md, Clones).

tests/e2e/test_clones.py has what programs see, and the templates that shims make.
"""

from pathlib import Path

import pytest

from shim.vmm.address_map import GENERATION_GPA
from shim.vmm.devices.generation import NUMBER_BYTES
from tests.vm.clone import cloned, save_template

Facts = dict[str, str]
SHARED = ("kernel", "agent", "agent's stack")
"""What was there at the snapshot."""
IDENTITIES = ("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid")
PROBE = f"""
echo "kernel=$(grep ' _text$' /proc/kallsyms)"
echo "agent=$(head -n 1 /proc/1/maps)"
echo "agent's stack=$(grep stack /proc/1/maps)"
echo "generation=$(dd if=/dev/mem bs={NUMBER_BYTES} skip={GENERATION_GPA // NUMBER_BYTES} count=1 \
    2>/dev/null | od -A n -t x1)"
echo "stack=$(grep stack /proc/self/maps)"
echo "random=$(dd if=/dev/urandom bs=16 count=1 2>/dev/null | od -A n -t x1)"
for path in {" ".join(IDENTITIES)}; do
    echo "$path=$(cat /proc/1/root$path 2>&1)"
done
for name in boot_id uuid; do
    echo "$name=$(cat /proc/sys/kernel/random/$name)"
    echo "$name again=$(cat /proc/sys/kernel/random/$name)"
done
"""


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> list[Facts]:
    template = save_template(tmp_path_factory.mktemp("t"), tmp_path_factory.mktemp("origin"))
    top = tmp_path_factory.mktemp("clones")
    return [probe(template, top / name) for name in ("one", "two")]


def probe(template: str, directory: Path) -> Facts:
    with cloned(template, directory) as guest:
        guest.make_root("probe")
        status, output = guest.run("probe", PROBE, privileged=True)
        assert status == 0, output
    lines = output.decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_every_fact_was_found(clones: list[Facts]) -> None:
    for facts in clones:
        assert [name for name, value in facts.items() if not value.strip()] == []


def test_what_was_there_at_the_snapshot_is_where_it_was(clones: list[Facts]) -> None:
    """The documents say so: whoever reads this in one clone knows it of the others."""
    first, second = clones
    assert {name: first[name] for name in SHARED} == {name: second[name] for name in SHARED}
    assert first["kernel"].startswith("ffffffff81000000 ")


def test_each_clone_has_a_generation_of_its_own(clones: list[Facts]) -> None:
    """VMGENID, as its kernel reads it."""
    first, second = (facts["generation"].split() for facts in clones)
    assert len(first) == len(second) == NUMBER_BYTES
    assert first != second


@pytest.mark.parametrize("name", ["random", "uuid", "boot_id", "stack"])
def test_what_begins_later_is_a_clones_own(clones: list[Facts], name: str) -> None:
    """boot_id is made when it is first read: nothing may read it before the snapshot."""
    first, second = clones
    assert first[name] != second[name]


def test_a_clone_keeps_its_boot_id(clones: list[Facts]) -> None:
    for facts in clones:
        assert facts["boot_id"] == facts["boot_id again"]
        assert facts["uuid"] != facts["uuid again"]


@pytest.mark.parametrize("path", IDENTITIES)
def test_the_guest_itself_has_no_identity_that_clones_could_share(
    clones: list[Facts], path: str
) -> None:
    for facts in clones:
        assert "No such file" in facts[path]
