"""Builds the guest image: {vmlinux, root/, manifest.json} in one directory.

Owns the cache directory (under its lock) and the output directory.  Two layers: the
base (kernel, Debian packages, wheels; needs the network) is cached by what it is
made of; the agent's code goes on top in a second or two.  The tuned kernel is a
separate part (image/tuned.py), made on request.  An image is assembled beside the
output and exchanged with it in one rename, so an interrupted build leaves the old
image or the new one.  The earlier image is kept as OUTPUT.previous: machines that
run from it keep their files.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from image import kernel, manifest, modules, packages, root, tuned, wheels
from image.errors import FormatError, ImageError
from image.exchange import exchange_directories, scratch_directory
from image.manifest import BaseManifest, Component, Manifest, TunedManifest
from image.tools import require_tools
from proto import contract

TREE: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb", "ldconfig", "chroot", "zstd")
KERNEL_PACKAGES: Final = "linux-image-"


@dataclass(frozen=True)
class BuildOptions:
    """What the command line may choose.

    `modules_dir` is a /lib/modules/RELEASE for `kernel_path`.  With `tuned` both
    are None.
    """

    output: Path
    cache: Path
    kernel_path: Path | None = None
    modules_dir: Path | None = None
    tuned: bool = False
    refresh: bool = False


@dataclass(frozen=True)
class ChosenKernel:
    """The kernel that goes into an image: a vmlinux or bzImage, and modules in load order."""

    path: Path
    release: str
    origin: str
    modules: list[modules.Module]


@dataclass(frozen=True)
class BuildResult:
    manifest: Manifest | None
    """None when the existing image is up to date."""


def build_image(options: BuildOptions, say: Callable[[str], None]) -> BuildResult:
    """Raises ImageError, or OSError where the file system is full or read only."""
    if os.geteuid() != 0:
        raise ImageError("building the image needs root: its files belong to root")
    require_tools(TOOLS)
    with lock_cache(options.cache):
        base = ensure_base(options, say)
        own = tuned.ensure_kernel(options.cache, options.refresh, say) if options.tuned else None
        inputs = hash_inputs(base, options, own)
        if manifest.read_inputs_hash(options.output) == inputs:
            return BuildResult(None)
        return BuildResult(assemble(base, own, inputs, options))


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
    """Returns the cached base if this recipe made it, else replaces it by a new
    one."""
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
    (scratch / modules.CACHED_DIR).mkdir()
    (tree / release).rename(scratch / modules.CACHED_DIR / release)
    shutil.rmtree(unpacked)
    return release, manifest.hash_file(vmlinux)


def hash_inputs(base: BaseManifest, options: BuildOptions, own: TunedManifest | None = None) -> str:
    parts = [base.to_json(), manifest.hash_sources(TREE, root.COPIED_PACKAGES)]
    if own is not None:
        parts.append(own.to_json())
    if options.kernel_path is not None:
        parts.append(manifest.hash_file(options.kernel_path))
    if options.modules_dir is not None:
        parts.append(str(options.modules_dir))
    return manifest.hash_text(parts)


def assemble(
    base: BaseManifest, own: TunedManifest | None, inputs: str, options: BuildOptions
) -> Manifest:
    """Joins the base, the agent and the kernel, and replaces the old image by them."""
    output = options.output.absolute()
    with scratch_directory(output.parent, f"{output.name}-") as scratch:
        guest_root = scratch / "root"
        shutil.copytree(base_directory(options) / "root", guest_root, symlinks=True)
        root.install_agent(guest_root, TREE)
        chosen = choose_kernel(base, own, options)
        vmlinux = kernel.unpack_kernel(chosen.path.read_bytes(), str(chosen.path))
        (scratch / "vmlinux").write_bytes(vmlinux)
        root.install_modules(guest_root, chosen.release, chosen.modules)
        made = Manifest(
            inputs_sha256=inputs,
            protocol_version=contract.PROTOCOL_VERSION,
            kernel_release=chosen.release,
            kernel_origin=chosen.origin,
            vmlinux_sha256=manifest.hash_file(scratch / "vmlinux"),
            agent_sha256=manifest.hash_sources(TREE, root.COPIED_PACKAGES),
            modules=tuple(module.name for module in chosen.modules),
            components=base.components,
        )
        if own is not None:
            made = name_tuned_kernel(made, own)
        (scratch / manifest.MANIFEST_NAME).write_text(made.to_json())
        publish(scratch, output)
    return made


def choose_kernel(
    base: BaseManifest, own: TunedManifest | None, options: BuildOptions
) -> ChosenKernel:
    if own is not None:
        return take_cached(options.cache / tuned.DIRECTORY, own.kernel_release, "tuned")
    path, directory = options.kernel_path, options.modules_dir
    if path is None:
        return take_cached(base_directory(options), base.kernel_release, "debian")
    if directory is None:  # all that is needed is built into the kernel
        return ChosenKernel(path, "custom", str(path), [])
    return ChosenKernel(path, directory.name, str(path), modules.select_modules(directory))


def take_cached(directory: Path, release: str, origin: str) -> ChosenKernel:
    chosen = modules.select_modules(directory / modules.CACHED_DIR / release)
    return ChosenKernel(directory / "vmlinux", release, origin, chosen)


def name_tuned_kernel(image: Manifest, own: TunedManifest) -> Manifest:
    """Names its source instead of Debian's kernel, and all else that its bytes
    depend on."""
    kept = [part for part in image.components if not part.name.startswith(KERNEL_PACKAGES)]
    return replace(
        image,
        components=(*kept, own.source),
        kernel_config_sha256=own.config_sha256,
        kernel_compiler=own.compiler,
    )


def publish(scratch: Path, output: Path) -> None:
    """After this `output` is the new image and OUTPUT.previous the old one."""
    previous = output.with_name(output.name + ".previous")
    if output.exists() and manifest.read_inputs_hash(output) is None and any(output.iterdir()):
        raise ImageError(
            f"{output}: exists and is no guest image; remove it or choose another --output"
        )
    shutil.rmtree(previous, ignore_errors=True)
    exchange_directories(scratch, output)
    if scratch.exists():
        scratch.rename(previous)
