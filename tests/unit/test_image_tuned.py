"""The tuned kernel's build, with a tree of a few lines standing in for Linux.

The tree's Makefile has the targets that the build uses; make, objcopy, tar and
dpkg-deb are the real ones.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image import manifest, packages, tools, tuned
from image.build import BuildOptions, choose_kernel, hash_inputs, name_tuned_kernel
from image.errors import FormatError, ToolError
from image.manifest import BaseManifest, Component, Manifest, TunedManifest
from image.packages import Package

MAKEFILE = """\
allnoconfig:
	cp $(KCONFIG_ALLCONFIG) .config
	echo '# CONFIG_NOT_ASKED_FOR is not set' >> .config
vmlinux:
	echo compiled >> $(COUNTER)
	cp /bin/true vmlinux
	mkdir -p include/config
	echo 6.12.7-sampan > include/config/kernel.release
	echo kernel/fs/overlayfs/overlay.ko > modules.builtin
	echo '$(KBUILD_BUILD_TIMESTAMP)|$(KBUILD_BUILD_USER)|$(KCFLAGS)' > modules.order.said
	cp modules.order.said $(COUNTER).said
modules:
	mkdir -p drivers/net
	echo module > drivers/net/virtio_net.ko
	echo drivers/net/virtio_net.o > modules.order
"""
CONFIG = "# --- One.\nCONFIG_SMP=y\n# CONFIG_VT is not set\n"
BUILT_AT = 1_700_000_000  # 14 November 2023, 22:13:20


class FakeArchive:
    """Has one package, linux-source, of a version that a test may raise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.makefile = MAKEFILE.replace("$(COUNTER)", str(directory / "compiled"))
        self.fetched = 0
        self.publish("6.12.7-1")

    def publish(self, version: str) -> None:
        package = self.directory / version
        source = package / "usr/src/linux-source-6.12"
        source.mkdir(parents=True)
        (source / "Makefile").write_text(self.makefile)
        packed = source.with_name(source.name + ".tar.xz")
        subprocess.run(["tar", "-caf", packed, "-C", source.parent, source.name], check=True)
        (source / "Makefile").unlink()
        source.rmdir()
        os.utime(packed, (BUILT_AT, BUILT_AT))
        (package / "DEBIAN").mkdir()
        (package / "DEBIAN").chmod(0o755)  # dpkg-deb insists, whatever the umask is
        (package / "DEBIAN/control").write_text(
            f"Package: linux-source-6.12\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: nobody <nobody@example.test>\nDescription: a stand-in\n"
        )
        path = self.directory / f"{version}.deb"
        subprocess.run(["dpkg-deb", "--build", package, path], check=True, capture_output=True)
        self.package = Package("linux-source-6.12", version, manifest.hash_file(path), path)

    def look_up(self, name: str) -> tuple[str, str]:
        assert name == self.package.name
        return self.package.version, self.package.sha256

    def fetch_unless_had(self, name: str) -> Package:
        assert name == self.package.name
        self.fetched += 1
        return self.package

    @property
    def compilations(self) -> int:
        counter = self.directory / "compiled"
        return len(counter.read_text().splitlines()) if counter.exists() else 0


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    (tmp_path / "archive").mkdir()
    (tmp_path / "tuned.config").write_text(CONFIG)
    made = FakeArchive(tmp_path / "archive")
    monkeypatch.setattr(packages, "open_archive", lambda directory: made)
    monkeypatch.setattr(tuned, "TOOLS", ("make", "objcopy", "tar", "xz"))
    monkeypatch.setattr(tuned, "CONFIG_FILE", tmp_path / "tuned.config")
    monkeypatch.setattr(tuned, "RECIPE", (tmp_path / "tuned.config",))
    monkeypatch.setattr(tuned, "identify_compiler", lambda: "gcc 14")
    return made


Ensure = Callable[..., TunedManifest]


@pytest.fixture
def ensure(tmp_path: Path, archive: FakeArchive) -> Ensure:
    def run(*, refresh: bool = False) -> TunedManifest:
        return tuned.ensure_kernel(tmp_path / "cache", refresh, lambda line: None)

    return run


def test_a_kernel_its_module_and_what_it_was_made_of_are_cached(
    ensure: Ensure, tmp_path: Path, archive: FakeArchive
) -> None:
    made = ensure()
    cached = tmp_path / "cache/tuned"
    assert sorted(path.name for path in cached.iterdir()) == [
        "config",
        "manifest.json",
        "modules",
        "vmlinux",
    ]
    assert made.kernel_release == "6.12.7-sampan"
    assert made.source == Component(
        "linux-source-6.12", "6.12.7-1", archive.package.sha256, "debian"
    )
    assert made.vmlinux_sha256 == manifest.hash_file(cached / "vmlinux")
    tree = cached / "modules/6.12.7-sampan"
    assert (tree / "kernel/drivers/net/virtio_net.ko").read_text() == "module\n"
    assert "overlay" in (tree / "modules.builtin").read_text()
    assert TunedManifest.from_json((cached / "manifest.json").read_text()) == made


def test_the_build_is_told_the_packages_date_and_nothing_of_its_caller(
    ensure: Ensure, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCFLAGS", "-O0")
    ensure()
    said = (archive.directory / "compiled.said").read_text()
    assert said == "Tue Nov 14 22:13:20 UTC 2023|sampan|\n"


def test_what_is_cached_is_not_compiled_again(ensure: Ensure, archive: FakeArchive) -> None:
    first = ensure()
    assert ensure() == first
    assert (archive.compilations, archive.fetched) == (1, 1)


def test_a_refresh_that_finds_nothing_newer_does_not_compile(
    ensure: Ensure, archive: FakeArchive
) -> None:
    first = ensure()
    assert ensure(refresh=True) == first
    assert (archive.compilations, archive.fetched) == (1, 1)


def test_a_newer_source_is_compiled_when_a_refresh_asks_for_it(
    ensure: Ensure, archive: FakeArchive
) -> None:
    ensure()
    archive.publish("6.12.8-1")
    assert ensure().source.version == "6.12.7-1"
    assert ensure(refresh=True).source.version == "6.12.8-1"
    assert archive.compilations == 2


def test_another_configuration_and_another_compiler_are_another_kernel(
    ensure: Ensure, archive: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure()
    (tmp_path / "tuned.config").write_text(CONFIG + "CONFIG_NET=y\n")
    ensure()
    monkeypatch.setattr(tuned, "identify_compiler", lambda: "gcc 15")
    assert ensure().compiler == "gcc 15"
    assert archive.compilations == 3


def test_a_cache_that_cannot_be_read_is_made_again(
    ensure: Ensure, archive: FakeArchive, tmp_path: Path
) -> None:
    made = ensure()
    (tmp_path / "cache/tuned/manifest.json").write_text("{")
    assert ensure() == made
    assert archive.compilations == 2


def test_an_option_that_the_kernel_drops_is_named_and_nothing_is_compiled(
    ensure: Ensure, archive: FakeArchive, tmp_path: Path
) -> None:
    archive.makefile = archive.makefile.replace(
        "cp $(KCONFIG_ALLCONFIG) .config", "grep -v SMP $(KCONFIG_ALLCONFIG) > .config"
    )
    archive.publish("6.12.8-1")
    with pytest.raises(FormatError, match=r"tuned.config: .*dropped CONFIG_SMP=y \(it is n"):
        ensure()
    assert archive.compilations == 0
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_build_says_why_and_leaves_the_kernel_before(
    ensure: Ensure, archive: FakeArchive, tmp_path: Path
) -> None:
    before = ensure()
    archive.makefile = archive.makefile.replace("cp /bin/true", "cp /nonexistent/true")
    archive.publish("6.12.8-1")
    with pytest.raises(ToolError, match="make failed .*cannot stat '/nonexistent/true'"):
        ensure(refresh=True)
    assert ensure() == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tuned"]


def test_an_interrupted_build_leaves_nothing(
    ensure: Ensure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(tree: Path, scratch: Path) -> str:
        (scratch / "vmlinux").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(tuned, "collect", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensure()
    assert list((tmp_path / "cache").iterdir()) == []


def test_every_missing_tool_and_header_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "SEARCH_PATH", "/nonexistent")
    monkeypatch.setattr(tools, "HEADERS", Path("/nonexistent"))
    with pytest.raises(ToolError) as refused:
        tuned.ensure_kernel(tmp_path, False, lambda line: None)
    install = (
        "apt-get install bc binutils bison flex gcc libc6-dev libelf-dev make perl tar xz-utils"
    )
    assert str(refused.value).endswith(install)


def test_every_processor_compiles_unless_makeflags_say_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Makefile").write_text(".PHONY: said\nsaid:\n\techo '$(MAKEFLAGS)' > said\n")
    monkeypatch.setenv("MAKEFLAGS", "--no-print-directory")
    tuned.run_make(tmp_path, ["said"])
    assert f"-j{len(os.sched_getaffinity(0))}" in (tmp_path / "said").read_text()
    monkeypatch.setenv("MAKEFLAGS", "-j7")
    tuned.run_make(tmp_path, ["said"])
    assert "-j7" in (tmp_path / "said").read_text()


BASE = BaseManifest(
    "key",
    "6.12.1-cloud-amd64",
    "00",
    (
        Component("linux-image-6.12.1-cloud-amd64", "6.12.1-1", "aa", "debian"),
        Component("crun", "1.21-1", "ff", "debian"),
    ),
)
OWN = TunedManifest(
    "recipe", "6.12.7-sampan", "11", "22", "gcc 14", Component("linux-source-6.12", "7", "33", "d")
)


def test_the_tuned_kernel_is_part_of_what_an_image_is_made_of(tmp_path: Path) -> None:
    options = BuildOptions(tmp_path, tmp_path, tuned=True)
    assert hash_inputs(BASE, options, OWN) != hash_inputs(BASE, options)


def test_an_image_names_the_tuned_kernels_source_instead_of_debians_kernel() -> None:
    image = Manifest("in", 1, "6.12.7-sampan", "tuned", "11", "44", (), BASE.components)
    named = name_tuned_kernel(image, OWN)
    assert [part.name for part in named.components] == ["crun", "linux-source-6.12"]
    assert (named.kernel_config_sha256, named.kernel_compiler) == ("22", "gcc 14")


def test_the_tuned_kernel_is_taken_from_its_cache_with_the_modules_it_has(tmp_path: Path) -> None:
    tree = tmp_path / "tuned/modules/6.12.7-sampan"
    tree.mkdir(parents=True)
    names = "vmw_vsock_virtio_transport overlay virtio_net virtio_balloon ptp_kvm".split()
    (tree / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in names))
    chosen = choose_kernel(BASE, OWN, BuildOptions(tmp_path, tmp_path, tuned=True))
    assert chosen.path == tmp_path / "tuned/vmlinux"
    assert (chosen.release, chosen.origin, chosen.modules) == ("6.12.7-sampan", "tuned", [])
