"""The operators' library is of the source beside it, and tells where it is not."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nsedge import native

ROOT = Path(__file__).parents[3]
LIBRARY = native.library()
needs_library = pytest.mark.skipif(LIBRARY is None, reason="the operators were not built")


def in_checkout(folder: Path) -> Any:
    """The module `nsedge.native` of a checkout at `folder`, with the library that is built here."""
    shutil.copytree(ROOT / "nsedge" / "native", folder / "nsedge" / "native")
    (folder / "setup.py").touch()
    path = folder / "nsedge" / "native" / "__init__.py"
    spec = importlib.util.spec_from_file_location("native_in_checkout", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_library
def test_the_library_here_is_of_the_source_here() -> None:
    assert "another source" not in str(native.why_not()), "run make"


@needs_library
@pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
def test_a_library_of_another_source_is_told_and_not_used(tmp_path: Path) -> None:
    changed = in_checkout(tmp_path)
    assert changed.why_not() is None
    with (changed.SOURCE / "matmul.cpp").open("a") as file:
        file.write("// other products\n")
    changed.why_not.cache_clear()
    assert "was built from another source: `make` builds it anew" in changed.why_not()
    assert changed.REQUIREMENT in changed.missing((changed.REQUIREMENT,))
    (tmp_path / "setup.py").unlink()  # as installed: nothing there can part the two
    changed.why_not.cache_clear()
    assert changed.why_not() is None


@needs_library
@pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
def test_what_no_compiler_reads_makes_no_other_library(tmp_path: Path) -> None:
    same = in_checkout(tmp_path)
    (same.SOURCE / "matmul.cpp~").write_text("an editor's copy")
    assert same.why_not() is None


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("name", ["nsedge/native/src/matmul.h", "setup.py", "pyproject.toml"])
def test_make_installs_anew_where_the_source_has_changed(tmp_path: Path, name: str) -> None:
    for copied in (
        "Makefile",
        "pyproject.toml",
        "setup.py",
        "constraints.txt",
        "nsedge/version.py",
    ):
        (tmp_path / copied).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / copied, tmp_path / copied)
    shutil.copytree(ROOT / ".locks", tmp_path / ".locks")
    shutil.copytree(native.SOURCE, tmp_path / "nsedge" / "native" / "src")

    def planned() -> str:
        command = ["make", "--dry-run", "lint"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    (before,) = (line for line in planned().splitlines() if ".ci/venv" in line)
    stamp = tmp_path / before.split()[1]
    stamp.parent.mkdir()
    stamp.touch()
    assert ".ci/venv" not in planned()
    with (tmp_path / name).open("a") as file:
        file.write("\n")
    assert ".ci/venv" in planned()
