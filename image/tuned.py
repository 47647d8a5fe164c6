"""Builds the tuned kernel: Debian's source with a configuration for sampan's machine alone.

Owns CACHE/tuned: {vmlinux, modules/RELEASE/, config, manifest.json}, made beside it and put
in its place in one rename when all of it is there.  It is made again only when its recipe
changes (this code, the configuration, the compiler) or, by --refresh, for a newer source.
The bytes depend on nothing else: not on the directory, the time, the machine's name or the
caller's environment.

Call ensure_kernel() with the cache's lock held.  Synchronous; make runs as many jobs
as there are processors, or as MAKEFLAGS say.
Spec: Linux Documentation/kbuild/{kbuild,kconfig,reproducible-builds}.rst.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from image import manifest, modules, packages
from image.errors import FormatError
from image.exchange import exchange_directories, scratch_directory
from image.kconfig import check_config, parse_config
from image.manifest import Component, TunedManifest
from image.packages import Package
from image.tools import require_tools, run_tool

HERE: Final = Path(__file__).resolve().parent
CONFIG_FILE: Final = HERE / "tuned.config"
RECIPE: Final = tuple(HERE / name for name in ("tuned.py", "kconfig.py", "tuned.config"))
SOURCE_PACKAGE: Final = "linux-source-6.12"
"""Of the version that packages.SUITE has."""
DIRECTORY: Final = "tuned"

TOOLS: Final = (
    *("bc", "bison", "flex", "gcc", "ld", "make", "objcopy", "perl", "tar", "xz"),
    *("gelf.h", "stdio.h"),
)
VARIABLES: Final = (
    "ARCH=x86_64",
    "LOCALVERSION=",  # nor a "+" if the cache is inside a git tree
    "KBUILD_BUILD_USER=sampan",
    "KBUILD_BUILD_HOST=sampan",
    "KBUILD_BUILD_VERSION=1",
    # Their versions would be in /proc/config.gz, whether they are used or not.
    "RUSTC=false",
    "PAHOLE=false",
)
KEPT_ENVIRONMENT: Final = ("MAKEFLAGS", "TMPDIR", "HOME")


def ensure_kernel(cache: Path, refresh: bool, say: Callable[[str], None]) -> TunedManifest:
    """Returns the cached kernel if the same would be built now, else replaces it by a
    new one."""
    require_tools(TOOLS)
    compiler = identify_compiler()
    recipe = manifest.hash_text([*map(manifest.hash_file, RECIPE), compiler])
    cached = read_cached(cache / DIRECTORY)
    if cached is not None and cached.recipe != recipe:
        cached = None
    if cached is not None and not refresh:
        return cached
    archive = packages.open_archive(cache / "apt")
    offered = archive.look_up(SOURCE_PACKAGE)
    if cached is not None and (cached.source.version, cached.source.sha256) == offered:
        return cached
    say(f"taking {SOURCE_PACKAGE} {offered[0]} (150 MB) for the tuned kernel")
    source = archive.fetch_unless_had(SOURCE_PACKAGE)
    with scratch_directory(cache, f"{DIRECTORY}-") as scratch:
        made = make_kernel(source, recipe, compiler, scratch, say)
        exchange_directories(scratch, cache / DIRECTORY)
    return made


def read_cached(directory: Path) -> TunedManifest | None:
    try:
        return TunedManifest.from_json((directory / manifest.MANIFEST_NAME).read_text())
    except (OSError, ValueError, TypeError, KeyError):
        return None


def identify_compiler() -> str:
    """The compiler as /proc/version will name it: those of one version may differ by
    distribution."""
    versions = (run_tool([name, "--version"]).decode().splitlines()[0] for name in ("gcc", "ld"))
    return ", ".join(versions)


def make_kernel(
    source: Package, recipe: str, compiler: str, scratch: Path, say: Callable[[str], None]
) -> TunedManifest:
    """Leaves in `scratch` only the files to be cached, without the source."""
    tree, timestamp = unpack_source(source, scratch / "source")
    config = configure(tree)
    say("compiling the tuned kernel; this takes some minutes, once")
    started = time.monotonic()
    run_make(tree, [f"KBUILD_BUILD_TIMESTAMP={timestamp}", "vmlinux", "modules"])
    release = collect(tree, scratch)
    (scratch / "config").write_text(config)
    shutil.rmtree(scratch / "source")
    say(f"kernel {release} compiled in {time.monotonic() - started:.0f} s")
    made = TunedManifest(
        recipe=recipe,
        kernel_release=release,
        vmlinux_sha256=manifest.hash_file(scratch / "vmlinux"),
        config_sha256=manifest.hash_file(scratch / "config"),
        compiler=compiler,
        source=Component(source.name, source.version, source.sha256, "debian"),
    )
    (scratch / manifest.MANIFEST_NAME).write_text(made.to_json())
    return made


def unpack_source(package: Package, directory: Path) -> tuple[Path, str]:
    """Returns the tree below `directory` and Debian's date of it, which becomes the kernel's
    build date."""
    directory.mkdir()
    unpacked = directory / "package"
    packages.unpack_package(package, unpacked)
    found = sorted(unpacked.glob("usr/src/linux-source-*.tar.xz"))
    if len(found) != 1:
        raise FormatError(f"{package.path.name}: {len(found)} source archives instead of one")
    tree = directory / "linux"
    tree.mkdir()
    run_tool(["tar", "--extract", "--file", found[0], "--strip-components=1", "-C", tree])
    made = time.gmtime(found[0].stat().st_mtime)
    shutil.rmtree(unpacked)
    return tree, time.strftime("%a %b %e %H:%M:%S UTC %Y", made)


def configure(tree: Path) -> str:
    """The whole configuration.  FormatError names options that were requested and dropped."""
    wanted = parse_config(CONFIG_FILE.read_text(), CONFIG_FILE.name)
    run_make(tree, [f"KCONFIG_ALLCONFIG={CONFIG_FILE}", "allnoconfig"])
    config = (tree / ".config").read_text()
    check_config(wanted, parse_config(config, ".config"), CONFIG_FILE.name)
    return config


def run_make(tree: Path, words: list[str]) -> None:
    """Passes nothing else of the caller's environment: e.g. KCFLAGS would change the
    kernel."""
    env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    chosen = "-j" in env.get("MAKEFLAGS", "")
    jobs = [] if chosen else [f"-j{len(os.sched_getaffinity(0))}"]
    run_tool(["make", "--silent", *jobs, *VARIABLES, *words], cwd=tree, env=env)


def collect(tree: Path, scratch: Path) -> str:
    """Collects vmlinux without symbols, as in a bzImage, and modules as in /lib/modules; returns
    the release."""
    run_tool(["objcopy", "--strip-all", tree / "vmlinux", scratch / "vmlinux"])
    release = (tree / "include/config/kernel.release").read_text().strip()
    installed = scratch / modules.CACHED_DIR / release
    for line in (tree / "modules.order").read_text().splitlines():
        module = Path(line).with_suffix(".ko")
        target = installed / "kernel" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree / module, target)
    shutil.copyfile(tree / "modules.builtin", installed / "modules.builtin")
    return release
