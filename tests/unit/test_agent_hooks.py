"""A hook that crun runs in the guest, and whose file the guest does not have."""

from pathlib import Path

import pytest

from agent.errors import InvalidArgument
from agent.hooks import check_hooks


def test_a_file_that_only_the_host_has_is_named_with_its_field(tmp_path: Path) -> None:
    here = tmp_path / "hook"
    here.touch()
    hooks = [{"path": str(here)}, {"path": "/opt/host/only"}]
    with pytest.raises(InvalidArgument) as told:
        check_hooks({"hooks": {"createContainer": hooks}})
    assert str(told.value) == (
        "hooks.createContainer[1].path: '/opt/host/only': there is no such file in the guest, "
        "where this hook runs; createRuntime hooks run on the host"
    )


@pytest.mark.parametrize("hooks", [None, {}, {"startContainer": [{"path": "/no/such"}]}])
def test_files_of_the_containers_own_root_are_left_to_crun(hooks: object) -> None:
    check_hooks({"hooks": hooks})
