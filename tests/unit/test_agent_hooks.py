"""A hook that crun runs in the guest, and whose file is not there."""

import os
from pathlib import Path

import pytest

from agent.errors import InvalidArgument
from agent.hooks import check_create_hooks, check_start_hooks
from agent.linux import exists_in_root


def test_a_file_that_only_the_host_has_is_named_with_its_field(tmp_path: Path) -> None:
    here = tmp_path / "hook"
    here.touch()
    hooks = [{"path": str(here)}, {"path": "/opt/host/only"}]
    with pytest.raises(InvalidArgument) as told:
        check_create_hooks({"hooks": {"createContainer": hooks}})
    assert str(told.value) == (
        "hooks.createContainer[1].path: '/opt/host/only': there is no such file in the guest, "
        "where this hook runs; createRuntime hooks run on the host"
    )


def test_files_of_the_containers_own_root_are_looked_for_there(tmp_path: Path) -> None:
    document = {"hooks": {"startContainer": [{"path": "/bin/there"}, {"path": "/bin/not"}]}}
    check_create_hooks(document)
    with pytest.raises(InvalidArgument, match=r"startContainer\[1\].path: '/bin/not'.* container,"):
        check_start_hooks(document, lambda path: path == "/bin/there")


@pytest.mark.parametrize("hooks", [None, {}])
def test_no_hooks_need_no_files(hooks: object) -> None:
    check_create_hooks({"hooks": hooks})
    check_start_hooks({"hooks": hooks}, lambda path: False)


def test_links_of_a_root_lead_to_files_of_that_root(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").touch()
    os.symlink("/bin/busybox", tmp_path / "bin/sh")
    os.symlink("/etc/passwd", tmp_path / "bin/host")
    found = [exists_in_root(str(tmp_path), f"/bin/{name}") for name in ("sh", "host", "none")]
    assert found == [True, False, False]
    assert not exists_in_root(str(tmp_path / "gone"), "/bin/sh")
