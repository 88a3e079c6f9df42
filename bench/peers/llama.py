"""llama.cpp: its server and tools from the sources in llama-cpp-python, its weights from ours."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bench.peers.building import Builder, BuildFailed, command
from exporters.cache import folder_digest
from nsedge.bundle.files import sha256_of

VERSION = "0.3.36"
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TARGETS = ("llama-server", "llama-bench", "llama-batched-bench", "llama-quantize")
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
AMX_SOURCE = "ggml/src/ggml-cpu/amx/mmq.cpp"
AMX_LOAD = "    _tile_loadconfig(&tc);"
AMX_BARRIER = '    asm volatile("" : : "r"(&tc) : "memory");'
"""GCC 12 takes `_tile_loadconfig` to read eight bytes of its argument, and drops what is stored to
the others: every prompt of eight tokens or more then crashes where there is AMX."""
CMAKE, NINJA = "4.1.2", "1.13.0"
BINDINGS_NEED = ("sentencepiece==0.2.1", "diskcache==5.6.3")
"""Packages that converter and Python bindings import and the exporters' environment lacks."""


@dataclass(frozen=True, kw_only=True)
class Llama:
    """A finished build, and what its scripts need."""

    folder: Path
    packages: Path

    def program(self, name: str) -> Path:
        """One of `TARGETS`."""
        return self.folder / "bin" / name

    def environment(self) -> dict[str, str]:
        """For our interpreter, to run the converter or use the bindings."""
        path = [self.folder / "python", self.packages, Path(__file__).parents[2]]
        return {
            **os.environ,
            "LLAMA_CPP_LIB_PATH": str(self.folder / "bin"),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
        }


def build(builder: Builder) -> Llama:
    """Fetch the sources and compile them for this machine.

    Raises:
        BuildFailed: they cannot be had, are not those we know, or do not compile.
    """
    sources = builder.get("llama-sources", {"sha256": SDIST_SHA256}, _download)
    cmake, ninja = builder.tool("cmake", CMAKE), builder.tool("ninja", NINJA)

    def make(folder: Path) -> None:
        tree = folder / "sources"
        with tarfile.open(sources / SDIST) as archive:
            archive.extractall(tree, filter="data")
        package = tree / SDIST.removesuffix(".tar.gz")
        vendored, building = package / "vendor" / "llama.cpp", folder / "build"
        keep_tile_config(vendored)
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        command([cmake, "-S", vendored, "-B", building, *generator, *FLAGS])
        command([cmake, "--build", building, "--target", *TARGETS])
        shutil.copytree(building / "bin", folder / "bin", symlinks=True)
        python = folder / "python"
        shutil.copytree(package / "llama_cpp", python / "llama_cpp")
        for name in ("convert_hf_to_gguf.py", "conversion", "gguf-py"):
            shutil.move(vendored / name, python / name)
        shutil.rmtree(tree)
        shutil.rmtree(building)

    made_by = FLAGS + TARGETS + (AMX_BARRIER,)
    inputs = {"sha256": SDIST_SHA256, "flags": made_by, "machine": builder.machine}
    return Llama(
        folder=builder.get("llama", inputs, make),
        packages=builder.packages("llama", BINDINGS_NEED),
    )


def keep_tile_config(tree: Path) -> None:
    """Make the compiler write all of the tile configuration before it is loaded.

    Raises:
        BuildFailed: the sources in `tree` are not those that were known.
    """
    source = tree / AMX_SOURCE
    text = source.read_text()
    if AMX_LOAD not in text:
        raise BuildFailed(f"{AMX_SOURCE} is not the source that was known")
    source.write_text(text.replace(AMX_LOAD, f"{AMX_BARRIER}\n{AMX_LOAD}"))


def _download(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    only = ["--no-binary", "llama-cpp-python", "--dest", folder]
    command([*pip, *only, f"llama-cpp-python=={VERSION}"])
    sdist = folder / SDIST
    found = sha256_of(sdist) if sdist.is_file() else "nothing"
    if found != SDIST_SHA256:
        raise BuildFailed(f"{SDIST}: expected SHA-256 {SDIST_SHA256}, found {found}")


def convert(builder: Builder, llama: Llama, model: Path, kind: str) -> Path:
    """The GGUF file of a model folder, its weights in `kind` ("Q8_0", ...)."""
    float_file = "float.gguf"
    inputs = {"model": folder_digest(model), "sha256": SDIST_SHA256}

    def write(folder: Path) -> None:
        script = llama.folder / "python" / "convert_hf_to_gguf.py"
        out = ["--outtype", "f32", "--outfile", folder / float_file]
        command([sys.executable, script, model, *out], env=llama.environment())

    def quantise(folder: Path) -> None:
        source = builder.get("llama-float", inputs, write) / float_file
        command([llama.program("llama-quantize"), source, folder / f"{kind}.gguf", kind, "2"])

    made = builder.get("llama-weights", {**inputs, "kind": kind}, quantise)
    return made / f"{kind}.gguf"
