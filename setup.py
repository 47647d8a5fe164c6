"""What pyproject.toml cannot say: the C layer, built by cffi."""

from setuptools import setup

setup(cffi_modules=["native/build.py:ffibuilder"])
