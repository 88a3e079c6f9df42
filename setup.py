"""Build the native operators with a digest of their source in them; pyproject.toml has the rest."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path(__file__).parent / "nsedge" / "native" / "__init__.py"


def source_digest() -> str:
    """What the installed package compares the library with: by its own function, imported alone."""
    spec = importlib.util.spec_from_file_location("native", NATIVE)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    return str(native.source_digest())


class BuildNative(build_ext):
    """Compiles anew whatever lies there: dates of files do not tell which source made it."""

    def finalize_options(self) -> None:
        """As setuptools does, and always by force."""
        super().finalize_options()
        self.force = True

    def build_extension(self, extension: Extension) -> None:
        """Tell the source its digest."""
        extension.define_macros.append(("NSEDGE_SOURCE", f'"{source_digest()}"'))
        super().build_extension(extension)


setup(cmdclass={"build_ext": BuildNative})
