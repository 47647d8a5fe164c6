"""The guest's root directory: what is kept, what is added, where Python's files
are.

Works on directories that its caller owns; fetches nothing.  The guest mounts
the result read only over virtio-fs, where every lookup is a round trip, so:
Python code is kept as .pyc files alone (no source to stat, no __pycache__), the
loader has its cache, and every mount point exists.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from image.errors import ToolError
from image.modules import Module
from image.tools import run_tool
from image.trial import write_trial
from proto import contract

BASE_PACKAGES: Final = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",  # grpcio's extension module
    "zlib1g",
    "libexpat1",  # linked into python3.13
    "libffi8",  # ctypes
    "python3.13-minimal",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "crun",
    "libcap2",
    "libseccomp2",
    "libsystemd0",  # linked into crun, which uses cgroupfs here
    "libyajl2",
    "iproute2",  # only ip of it: the agent's netlink, without the time of an import
    "libbpf1",
    "libelf1t64",
    "libmnl0",
    "libpcre2-8-0",
    "libselinux1",
    "libzstd1",
)
"""libssl is left out on purpose: asyncio and hashlib work without it, and start faster."""

PYTHON: Final = "usr/bin/python3.13"
LOADER: Final = "/lib64/ld-linux-x86-64.so.2"
PROGRAMS: Final = ("/usr/bin/crun", "/usr/bin/ip")
"""Programs that the agent starts."""
STDLIB: Final = "usr/lib/python3.13"
SITE: Final = "usr/lib/sampan"
MODULES_DIR: Final = "usr/lib/modules"
COPIED_PACKAGES: Final = ("agent", "proto")

MERGED_USR: Final = ("bin", "sbin", "lib", "lib64")
MOUNT_POINTS: Final = ("dev", "mnt", "proc", "root", "run", "sys", "tmp", "var/tmp", "etc/sampan")
PRUNED: Final = (
    "usr/share",
    "usr/include",
    "usr/lib/debug",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/audit",
    f"{STDLIB}/__phello__",
    f"{STDLIB}/config-3.13-x86_64-linux-gnu",
    f"{STDLIB}/curses",
    f"{STDLIB}/dbm",
    f"{STDLIB}/ensurepip",
    f"{STDLIB}/idlelib",
    f"{STDLIB}/pydoc_data",
    f"{STDLIB}/sqlite3",
    f"{STDLIB}/test",
    f"{STDLIB}/tkinter",
    f"{STDLIB}/turtledemo",
    f"{STDLIB}/unittest",
    f"{STDLIB}/venv",
    f"{STDLIB}/wsgiref",
    f"{STDLIB}/xmlrpc",
    f"{STDLIB}/_pyrepl",
    f"{SITE}/grpc/_cython/_credentials",  # certificate roots: our gRPC channels have no TLS
)
PRUNED_FILES: Final = (
    "usr/lib/x86_64-linux-gnu/*.a",
    f"{STDLIB}/turtle.py",
    # Without libssl their import fails anyway; without the files it fails faster.
    f"{STDLIB}/lib-dynload/_ssl.*",
    f"{STDLIB}/lib-dynload/_hashlib.*",
    f"{STDLIB}/lib-dynload/_test*",
    f"{STDLIB}/lib-dynload/_xxtest*",
    f"{STDLIB}/lib-dynload/xx*",
)
TEXT_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
# -I and -S: nothing from the environment, no site-packages to search.  The path
# is set whole so that no import looks into a python313.zip that is not there.
PREAMBLE: Final = f"""#!/{PYTHON} -IS
import sys

sys.path[:] = ["/{STDLIB}", "/{STDLIB}/lib-dynload", "/{SITE}"]

"""
BUNDLE: Final = f"{SITE}/agent.bundle"
WRITE_BUNDLE: Final = f"{PREAMBLE}from agent.bundle_writer import write; write('/{BUNDLE}')"
STARTERS: Final = {
    contract.GUEST_INIT: f"from agent.bundle import install\n\ninstall('/{BUNDLE}')\n\n"
    "from agent.init import main\n\nmain()\n",
    "/sbin/modprobe": "from agent.modules import main\n\nmain()\n",
}
PROBE: Final = (
    "import sys; sys.path.append('/{site}'); "
    "import asyncio, ctypes, json, grpc.aio, google.protobuf.timestamp_pb2"
)


def create_skeleton(root: Path) -> None:
    """Before packages are unpacked: /bin and friends as links into /usr."""
    for name in MERGED_USR:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)


def finish_base(root: Path) -> None:
    """After packages and wheels are unpacked: prunes, compiles and proves that it runs."""
    for name in PRUNED:
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in PRUNED_FILES:
        for path in root.glob(pattern):
            path.unlink()
    (root / PYTHON).with_name("python3").symlink_to(Path(PYTHON).name)
    for name, text in TEXT_FILES.items():
        (root / name).write_text(text)
    write_trial(root)
    run_tool(["ldconfig", "-r", root])
    compile_python(root, [STDLIB, SITE])
    probe_base(root)


def compile_python(root: Path, directories: Sequence[str]) -> None:
    """Replaces every .py below `directories` by its .pyc, made by the guest's own Python."""
    command = ["/" + PYTHON, "-IS", "-m", "compileall", "-q", "-b", "-f"]
    command += ["--invalidation-mode", "unchecked-hash"]
    run_in_root(root, [*command, *("/" + name for name in directories)])
    for directory in directories:
        for cache in sorted((root / directory).rglob("__pycache__")):
            shutil.rmtree(cache)
        for source in (root / directory).rglob("*.py"):
            if source.with_suffix(".pyc").exists():
                source.unlink()
        for interface in (root / directory).rglob("*.pyi"):
            interface.unlink()


def probe_base(root: Path) -> None:
    """Packages were unpacked without dependencies: a missing library shows here, not in the
    guest."""
    probe = PROBE.format(site=SITE)
    run_in_root(root, ["/" + PYTHON, "-IS", "-c", probe])
    # Run by the loader: crun reads /proc before anything else, and that is not
    # mounted here.
    for program in PROGRAMS:
        run_in_root(root, [LOADER, "--verify", program])
        listed = run_in_root(root, [LOADER, "--list", program])
        if b"not found" in listed:
            raise ToolError(f"{program} lacks a library in the image: {listed.decode()}")


def run_in_root(root: Path, command: Sequence[str]) -> bytes:
    return run_tool(["chroot", root, *command], env={"PYTHONHASHSEED": "0"})


def install_modules(root: Path, release: str, modules: Iterable[Module]) -> None:
    """Installs plain .ko files, and the list from which the agent loads them."""
    directory = root / MODULES_DIR / release
    directory.mkdir(parents=True)
    lines = []
    for module in modules:
        (directory / f"{module.name}.ko").write_bytes(module.content)
        lines.append(f"/{MODULES_DIR}/{release}/{module.name}.ko\n")
    listing = root / contract.GUEST_MODULES_FILE.lstrip("/")
    listing.write_text("".join(lines))


def install_agent(root: Path, tree: Path) -> None:
    """Installs the agent and the contract of `tree`, compiled, and the program that
    the kernel starts."""
    for name in COPIED_PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__", "*.proto", "*.pyi", "generate.py")
        shutil.copytree(tree / name, root / SITE / name, ignore=ignore)
    compile_python(root, [f"{SITE}/{name}" for name in COPIED_PACKAGES])
    run_in_root(root, ["/" + PYTHON, "-IS", "-c", WRITE_BUNDLE])
    for path, text in STARTERS.items():
        starter = root / path.lstrip("/")
        starter.write_text(PREAMBLE + text)
        starter.chmod(0o755)
