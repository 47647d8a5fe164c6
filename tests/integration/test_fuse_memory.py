"""What a guest makes the file server remember is charged to the server's cgroup."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.fuse_share import Share, build_server
from tests.integration.memory_cgroup import memory_cgroup

MIB = 1 << 20
LIMIT = 32 * MIB
NAMES = 300_000
"""Linux remembers some 250 bytes of each: more than twice the limit."""
LOOK = """
import os, sys
for number in range(int(sys.argv[2])):
    assert not os.path.exists(f"{sys.argv[1]}/{number:064x}")
"""


def test_names_that_a_guest_looks_up_fill_the_servers_cgroup_and_no_more(tmp_path: Path) -> None:
    """The names are not there: what the host's kernel remembers of them is all that is left.
    The client's kernel is the guest's, so what it remembers is not looked at."""
    server = build_server(tmp_path / "server")
    work = tmp_path / "work"
    work.mkdir()
    with (
        memory_cgroup("server", LIMIT) as cgroup,
        memory_cgroup("client", LIMIT) as client,
        Share(server, work, "exclusive", before=cgroup.enter) as share,
    ):
        look = (sys.executable, "-c", LOOK, str(share.root), str(NAMES))
        subprocess.run([*client.enter, *look], check=True)
        assert 0.9 * LIMIT < cgroup.read_peak() <= LIMIT
        assert os.listdir(share.root) == []
