"""A vmm that has been taken over, under containerd: its container ends, and nothing else.

A script in the vmm's place; more of them, without containerd:
tests/integration/test_hostile_vmm.py.
"""

import json
import os
from pathlib import Path

import pytest

from tests.e2e.conftest import Configure
from tests.e2e.containerd import Containerd
from tests.e2e.ctr import Ctr
from tests.fakes.script import CONTROL, ENTER

DEAF = """\
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True: time.sleep(100)
"""
OUTSIDE = """\
request, fds = receive()
send(id=request["id"], result={"cloned": False, "timings_us": {}})
"""
BOOTED = """\
request, fds = receive()
enter(request["args"], fds)
send(id=request["id"], result={"cloned": False, "timings_us": {}})
"""
WORDS = """\
for n in range(10**5):
    try: os.write(2, b'flood\\n')
    except BlockingIOError: pass
"""
FLOOD = """\
try:
    while True: control.send(b"nonsense")
except OSError: pass
"""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (BOOTED + FLOOD + DEAF, "broke the protocol of its control socket"),
        (BOOTED + "control.close()\n" + DEAF, "ended with signal 9"),
        (OUTSIDE + DEAF, "has not made the shares its root"),
        (DEAF, "within 5 s"),
        (BOOTED + WORDS + DEAF, "within 5 s"),
    ],
)
def test_its_container_fails_with_the_reason_and_the_next_one_works(
    ctr: Ctr, configure: Configure, tmp_path: Path, script: str, told: str
) -> None:
    program = tmp_path / "vmm.py"
    program.write_text(CONTROL + ENTER + script)
    words = json.dumps(["python3", str(program)])
    config = Path("/etc/sampan/config.yaml")
    before = config.read_text() if config.exists() else ""
    configure(vmm_command=words, agent_timeout_s=5)
    containerd = Containerd()
    start = os.stat(containerd.log).st_size
    done = ctr.run("true")
    assert done.status != 0
    assert told in done.stderr, done
    said = containerd.read_log(start)
    assert said.count("broke the protocol") <= 2, "the shim's line, and containerd's own"
    assert said.count("flood") < 200
    config.write_text(before)
    done = ctr.run("echo", "fine")
    assert (done.status, done.stdout) == (0, "fine\n"), done
