"""What pyproject.toml cannot say: the C layer, built by cffi, and the launcher, in C."""

import runpy
from pathlib import Path

from setuptools import setup  # brings its own distutils
from distutils.command.build_scripts import build_scripts  # isort: skip

LAUNCHERS = ("containerd-shim-sampan-v2", "sampan")


class BuildScripts(build_scripts):
    """The one program that is no Python script, under its two names: installed as it is
    compiled."""

    def run(self):
        self.mkpath(self.build_dir)
        build_launcher = runpy.run_path("native/build.py")["build_launcher"]
        for name in LAUNCHERS:
            build_launcher(Path(self.build_dir) / name)


setup(
    cffi_modules=["native/build.py:ffibuilder"],
    scripts=["native/launcher/main.c"],  # what has BuildScripts run
    cmdclass={"build_scripts": BuildScripts},
)
