"""The suites: how each is run in a container, and how its report is read.

Pure.  A suite's command gets the directory to work in as `$WORK`, and the
suites' binaries and configuration in /suites.  Its report is read into one
outcome for each named test, so that two runs can be compared test by test.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Outcomes = dict[str, str]

PYTHON_TESTS: Final = (
    "test_os test_posix test_shutil test_tempfile test_mmap test_largefile test_fcntl"
    " test_fileio test_file test_glob test_genericpath test_posixpath test_pathlib test_stat"
    " test_zipfile test_tarfile test_mailbox test_dbm_dumb test_filecmp test_fileinput"
    " test_ioctl test_select test_sqlite3"
).split()
FSX_OPERATIONS: Final = 5000
STRESS_SECONDS: Final = 2

PJDFSTEST_CONFIG: Final = """\
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.05

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
"""


@dataclass(frozen=True)
class Suite:
    name: str
    script: str
    parse: Callable[[str, int], Outcomes]


def parse_pjdfstest(output: str, status: int) -> Outcomes:
    """`chown::enoent_comp          ok`; a failure's report follows its line."""
    found = re.findall(r"^(\w[\w:]*::\w[\w:]*)\s+(\S+)", output, re.MULTILINE)
    return {**dict(found), "(exit status)": str(status)}


def parse_python(output: str, status: int) -> Outcomes:
    """unittest's verbose lines: `test_x (test.test_os.Y.test_x) ... ok`, at times text between."""
    outcomes: Outcomes = {}
    pattern = re.compile(r"^(\w+) \((test[\w.]+)\)", re.MULTILINE)
    starts = list(pattern.finditer(output))
    for here, following in zip(starts, [*starts[1:], None], strict=True):
        body = output[here.end() : following.start() if following else len(output)]
        outcome = re.search(r"\b(ok|ERROR|FAIL|skipped|expected failure)\b", body)
        if outcome and here.group(2) not in outcomes:
            outcomes[here.group(2)] = outcome.group(1)
    return {**outcomes, "(exit status)": str(status)}


def parse_stress(output: str, status: int) -> Outcomes:
    """The closing lines `passed: 38: access (1) chattr (1) …`, by their kind."""
    outcomes: Outcomes = {}
    for kind in ("skipped", "passed", "failed", "metrics untrustworthy"):
        for names in re.findall(rf"{kind}: \d+: (.+)$", output, re.MULTILINE):
            outcomes.update(dict.fromkeys(re.findall(r"([\w-]+) \(\d+\)", names), kind))
    return {**outcomes, "(exit status)": str(status)}


def parse_go(output: str, status: int) -> Outcomes:
    """`--- PASS: TestShim/shim/Exec/Exit0 (1.20s)`, indented by its depth; skips say so too."""
    found = re.findall(r"^ *--- (PASS|FAIL|SKIP): (\S+) \([\d.]+s\)$", output, re.MULTILINE)
    return {**{test: outcome for outcome, test in found}, "(exit status)": str(status)}


def parse_status(output: str, status: int) -> Outcomes:
    last = output.strip().splitlines()[-1:] if status else []
    return {"(exit status)": " ".join([str(status), *last])}


SUITES: Final = (
    Suite(
        "pjdfstest",
        "/suites/pjdfstest -c /suites/pjdfstest.toml -p $WORK",
        parse_pjdfstest,
    ),
    Suite(
        "fsx",
        f"/suites/fsx -q -S 7 -N {FSX_OPERATIONS} $WORK/fsx",
        parse_status,
    ),
    *(
        Suite(
            f"cpython-{module}",
            "cd $WORK && PYTHONDONTWRITEBYTECODE=1 TMPDIR=$WORK python3 -m test --tempdir=$WORK"
            f" --verbose --timeout 5000 {module}",
            parse_python,
        )
        for module in PYTHON_TESTS
    ),
    Suite(
        "stress-ng",
        f"cd $WORK && stress-ng --class filesystem --sequential 1 --timeout {STRESS_SECONDS}"
        " --verify --temp-path $WORK --oomable",
        parse_stress,
    ),
    Suite(
        "fio",
        "cd $WORK && fio --name=verify --rw=randrw --bs=4k-64k --size=32m --numjobs=2"
        " --ioengine=psync --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none"
        " --minimal > fio.out && fio --name=mapped --rw=randwrite --bs=4k --size=16m"
        " --ioengine=mmap --verify=crc32c --verify_fatal=1 --minimal > fio.out",
        parse_status,
    ),
)


def differences(ours: Outcomes, theirs: Outcomes) -> dict[str, tuple[str, str]]:
    return {
        name: (ours.get(name, "absent"), theirs.get(name, "absent"))
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    }
