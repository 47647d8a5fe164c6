"""Builds the guest image: {vmlinux, root/, manifest.json} in one directory.

Owns the cache directory (under its lock) and the output directory.  Two layers:
the base (kernel, Debian packages, wheels; needs the network) is cached by what
it is made of; the agent's code goes on top in a second or two.  An image is
assembled beside the output and exchanged with it in one rename, so whoever is
interrupted leaves the old image or the new one.  The image before is kept as
OUTPUT.previous: machines that run from it keep their files.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image import kernel, manifest, modules, packages, root, wheels
from image.errors import FormatError, ImageError
from image.exchange import exchange_directories
from image.manifest import BaseManifest, Component, Manifest
from image.tools import require_tools
from proto import contract

TREE: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb", "ldconfig", "chroot", "zstd")
KERNEL_MODULES_DIR: Final = "modules"


@dataclass(frozen=True)
class BuildOptions:
    """What a person may choose.  `modules_dir` is a /lib/modules/RELEASE for `kernel_path`."""

    output: Path
    cache: Path
    kernel_path: Path | None = None
    modules_dir: Path | None = None
    refresh: bool = False


@dataclass(frozen=True)
class BuildResult:
    manifest: Manifest | None
    """None when the image that was there is up to date."""


def build_image(options: BuildOptions, say: Callable[[str], None]) -> BuildResult:
    """Raises ImageError, and OSError for a file system that is full or read only."""
    if os.geteuid() != 0:
        raise ImageError("building the image needs root: its files belong to root")
    require_tools(TOOLS)
    with lock_cache(options.cache):
        base = ensure_base(options, say)
        inputs = hash_inputs(base, options)
        if manifest.read_inputs_hash(options.output) == inputs:
            return BuildResult(None)
        return BuildResult(assemble(base, inputs, options))


@contextmanager
def lock_cache(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base_key() -> str:
    """Changes with the recipe and with the lock file, not with the agent."""
    recipe = manifest.hash_sources(TREE, ["image"])
    return manifest.hash_text([recipe, manifest.hash_file(wheels.LOCK_FILE)])


def base_directory(options: BuildOptions) -> Path:
    return options.cache / "base"


def ensure_base(options: BuildOptions, say: Callable[[str], None]) -> BaseManifest:
    """The cached base if it is of this recipe, else a new one in its place."""
    directory = base_directory(options)
    key = base_key()
    if not options.refresh:
        try:
            cached = BaseManifest.from_json((directory / manifest.MANIFEST_NAME).read_text())
        except (OSError, ValueError, TypeError, KeyError):
            cached = None
        if cached is not None and cached.key == key:
            return cached
    say("fetching Debian packages and wheels for the guest")
    with scratch_directory(options.cache, "base-") as scratch:
        made = make_base(scratch, key, options)
        (scratch / manifest.MANIFEST_NAME).write_text(made.to_json())
        exchange_directories(scratch, directory)
    return made


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Gone at the end, and so are those that an interrupted build has left."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{prefix}*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f".{prefix}", suffix=".tmp", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def make_base(scratch: Path, key: str, options: BuildOptions) -> BaseManifest:
    archive = packages.open_archive(options.cache / "apt")
    fetched = archive.fetch([archive.kernel_package(), *root.BASE_PACKAGES])
    fetched_wheels = wheels.fetch_wheels(options.cache / "wheels")
    guest_root = scratch / "root"
    guest_root.mkdir(mode=0o755)
    root.create_skeleton(guest_root)
    for package in fetched[1:]:
        packages.unpack_package(package, guest_root)
    wheels.unpack_wheels(fetched_wheels, guest_root / root.SITE)
    root.finish_base(guest_root)
    release, vmlinux_sha256 = unpack_kernel_package(fetched[0], scratch)
    return BaseManifest(
        key=key,
        kernel_release=release,
        vmlinux_sha256=vmlinux_sha256,
        components=(
            *(Component(part.name, part.version, part.sha256, "debian") for part in fetched),
            *(Component(part.name, part.version, part.sha256, "pypi") for part in fetched_wheels),
        ),
    )


def unpack_kernel_package(package: packages.Package, scratch: Path) -> tuple[str, str]:
    """Leaves vmlinux and modules/RELEASE in `scratch`; returns the release and vmlinux's hash."""
    unpacked = scratch / "kernel"
    packages.unpack_package(package, unpacked)
    found = sorted(unpacked.glob("boot/vmlinuz-*"))
    if len(found) != 1:
        raise FormatError(f"{package.path.name}: {len(found)} files boot/vmlinuz-* instead of one")
    release = found[0].name.removeprefix("vmlinuz-")
    vmlinux = scratch / "vmlinux"
    vmlinux.write_bytes(kernel.unpack_kernel(found[0].read_bytes(), found[0].name))
    tree = next(
        path for path in (unpacked / "usr/lib/modules", unpacked / "lib/modules") if path.is_dir()
    )
    (scratch / KERNEL_MODULES_DIR).mkdir()
    (tree / release).rename(scratch / KERNEL_MODULES_DIR / release)
    shutil.rmtree(unpacked)
    return release, manifest.hash_file(vmlinux)


def hash_inputs(base: BaseManifest, options: BuildOptions) -> str:
    parts = [base.to_json(), manifest.hash_sources(TREE, root.COPIED_PACKAGES)]
    if options.kernel_path is not None:
        parts.append(manifest.hash_file(options.kernel_path))
    if options.modules_dir is not None:
        parts.append(str(options.modules_dir))
    return manifest.hash_text(parts)


def assemble(base: BaseManifest, inputs: str, options: BuildOptions) -> Manifest:
    """The base, the agent and the kernel together, put in place of the old image."""
    output = options.output.absolute()
    cached = base_directory(options)
    with scratch_directory(output.parent, f"{output.name}-") as scratch:
        guest_root = scratch / "root"
        shutil.copytree(cached / "root", guest_root, symlinks=True)
        root.install_agent(guest_root, TREE)
        release, origin = install_kernel(base, scratch, options)
        chosen = choose_modules(cached, release, options)
        root.install_modules(guest_root, release, chosen)
        made = Manifest(
            inputs_sha256=inputs,
            protocol_version=contract.PROTOCOL_VERSION,
            kernel_release=release,
            kernel_origin=origin,
            vmlinux_sha256=manifest.hash_file(scratch / "vmlinux"),
            agent_sha256=manifest.hash_sources(TREE, root.COPIED_PACKAGES),
            modules=tuple(module.name for module in chosen),
            components=base.components,
        )
        (scratch / manifest.MANIFEST_NAME).write_text(made.to_json())
        publish(scratch, output)
    return made


def install_kernel(base: BaseManifest, scratch: Path, options: BuildOptions) -> tuple[str, str]:
    target = scratch / "vmlinux"
    if options.kernel_path is None:
        shutil.copyfile(base_directory(options) / "vmlinux", target)
        return base.kernel_release, "debian"
    path = options.kernel_path
    target.write_bytes(kernel.unpack_kernel(path.read_bytes(), str(path)))
    release = options.modules_dir.name if options.modules_dir is not None else "custom"
    return release, str(path)


def choose_modules(cached: Path, release: str, options: BuildOptions) -> list[modules.Module]:
    if options.modules_dir is not None:
        return modules.select_modules(options.modules_dir)
    if options.kernel_path is not None:
        return []  # a kernel of one's own without modules: all that is needed is built in
    return modules.select_modules(cached / KERNEL_MODULES_DIR / release)


def publish(scratch: Path, output: Path) -> None:
    """After this `output` is the new image and OUTPUT.previous the old one."""
    previous = output.with_name(output.name + ".previous")
    if output.exists() and manifest.read_inputs_hash(output) is None and any(output.iterdir()):
        raise ImageError(f"{output} is there and holds no image; it is left alone")
    shutil.rmtree(previous, ignore_errors=True)
    exchange_directories(scratch, output)
    if scratch.exists():
        scratch.rename(previous)
