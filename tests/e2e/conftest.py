"""Fixtures of the end-to-end tests, and the check that each left nothing on the host."""

import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.ctr import DEBIAN, RUNC, SAMPAN, Ctr
from tests.e2e.host import read_host, wait_unchanged

CONFIG = Path("/etc/sampan/config.yaml")
Configure = Callable[..., None]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """At once: so a slow suite that is cut off has already printed what failed."""
    if report.failed:
        print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext}", flush=True)


@pytest.fixture
def ctr() -> Iterator[Ctr]:
    client = Ctr(SAMPAN)
    yield client
    client.close()


@pytest.fixture
def runc() -> Iterator[Ctr]:
    client = Ctr(RUNC, prefix="r")
    yield client
    client.close()


@pytest.fixture(scope="module")
def module_ctr() -> Iterator[Ctr]:
    client = Ctr(SAMPAN, prefix="m")
    yield client
    client.close()


@pytest.fixture(scope="module")
def module_runc() -> Iterator[Ctr]:
    client = Ctr(RUNC, prefix="n")
    yield client
    client.close()


@pytest.fixture(scope="session", autouse=True)
def _template() -> None:
    """Most tests' containers start from it; those that change the machine's class boot."""
    subprocess.run(["sampan", "template", "create"], check=True)


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Writes /etc/sampan/config.yaml for one test."""
    old = CONFIG.read_text() if CONFIG.exists() else None

    def write(**values: object) -> None:
        CONFIG.parent.mkdir(exist_ok=True)
        lines = [line for line in (old or "").splitlines() if line.split(":")[0] not in values]
        CONFIG.write_text("\n".join([*lines, *(f"{k}: {v}" for k, v in values.items())]) + "\n")

    yield write
    if old is None:
        CONFIG.unlink(missing_ok=True)
    else:
        CONFIG.write_text(old)


@pytest.fixture
def events() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["ctr", "events"], stdout=subprocess.PIPE) as process:
        time.sleep(2)  # until it has subscribed, which it does not say
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def _host_check() -> Generator[None, None, None]:
    """No process, mount, socket, file or loop device is left by a test."""
    before = read_host()
    yield
    left = wait_unchanged(before)
    if left:
        pytest.fail("left on the host: " + "; ".join(left))


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Debian image's files, read only, for `ctr run --config`."""
    target = tmp_path_factory.mktemp("debian-root")
    subprocess.run(["ctr", "image", "mount", DEBIAN, str(target)], check=True, capture_output=True)
    yield target
    subprocess.run(
        ["ctr", "image", "unmount", "--rm", str(target)], check=True, capture_output=True
    )
