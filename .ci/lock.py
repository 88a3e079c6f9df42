"""Write .locks/*.txt from pyproject.toml: what each environment installs, by version and by hash.

lock.py                        keep the versions that .locks holds where the ranges admit them
lock.py --upgrade              take the newest that the ranges admit
lock.py --range END EXTRA...   print the oldest or the newest versions of all ranges, for --python

Runs in an environment with uv and packaging (.ci/tools makes it). uv chooses the versions; of the
files that it names, those that a machine in TARGETS can install are taken.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = ROOT / "constraints.txt"
LOCKS = ROOT / ".locks"

ARCHITECTURES = ("x86_64", "aarch64")
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
GLIBC = range(5, 100)
"""Minor versions of glibc 2 whose wheels are taken."""
GLIBC_OF = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
UNLOCKED = re.compile(r"torch|triton|(nvidia|cuda)-.*")
"""PyTorch and its CUDA libraries are installed apart (docs/decisions/dependencies.md)."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a lock file is for: nsedge with some of its extras."""

    extras: tuple[str, ...]
    base: str | None = None
    """The file that it begins with, by `-r`."""
    group: str | None = None
    """A dependency group of pyproject.toml instead of nsedge."""
    apart: bool = False
    """Whether its versions are chosen for it alone."""

    def requirements(self) -> list[str]:
        """What is asked for, as pyproject.toml says it."""
        if self.group is not None:
            return list(PROJECT["dependency-groups"][self.group])
        project = PROJECT["project"]
        found = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
        for extra in self.extras:
            found += project["optional-dependencies"][extra]
        return found


ENVIRONMENTS = {
    "daemon": Environment(("web",)),
    "extras": Environment(("web", "signatures", "telemetry", "video"), base="daemon"),
    "exporters": Environment(("web", "exporters"), base="daemon"),
    "development": Environment(("web", "exporters", "dev"), base="exporters"),
    "next": Environment(("web", "exporters-next", "dev"), apart=True),
    "tools": Environment((), group="tools", apart=True),
}
WIDEST = "development"
"""It chooses the versions for all that have none of their own: what is tested is installed."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A kind of machine that the files are for."""

    python: tuple[int, int]
    machine: str

    def admits(self, marker: str | None) -> bool:
        """Whether a marker holds here.

        Raises:
            SystemExit: it does for some patch releases of this Python only.
        """
        if marker is None:
            return True
        python = ".".join(map(str, self.python))
        environment = {
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.machine,
            "platform_release": "",
            "platform_version": "",
            "python_version": python,
            "extra": "",
        }
        first, last = (
            Marker(marker).evaluate(
                {**environment, "python_full_version": full, "implementation_version": full}
            )
            for full in (f"{python}.0", f"{python}.99")
        )
        if first != last:
            raise SystemExit(f"{marker}: differs between patch releases of Python {python}")
        return first

    def tags(self) -> frozenset[Tag]:
        """Of the wheels that can be installed here."""
        minors = [f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC]
        older = [f"manylinux{name}_{self.machine}" for name in ("1", "2010", "2014")]
        platforms = [*minors, *older, f"linux_{self.machine}"]
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        return frozenset(
            [
                *cpython_tags(self.python, platforms=platforms),
                *compatible_tags(self.python, interpreter, platforms),
            ]
        )


TARGETS = [Target(*pair) for pair in itertools.product(PYTHONS, ARCHITECTURES)]
TAGS = {target: target.tags() for target in TARGETS}


@dataclass(frozen=True, slots=True)
class File:
    """Of a package."""

    sha256: str
    glibc: int
    """The oldest minor version of glibc 2 that it runs with; 0 for any."""


@dataclass(frozen=True, slots=True)
class Package:
    """A version of a package, and its files for each target that installs it."""

    name: str
    version: str
    files: Mapping[Target, Sequence[File]]

    @property
    def targets(self) -> frozenset[Target]:
        """Where it is installed."""
        return frozenset(self.files)

    def lines(self) -> str:
        """As a requirement file holds it."""
        head = f"{self.name}=={self.version}{marker_of(self.targets)}"
        digests = sorted({file.sha256 for files in self.files.values() for file in files})
        return " \\\n    ".join([head, *(f"--hash=sha256:{digest}" for digest in digests)])


def main() -> None:
    """Write every file, or print the end of the ranges."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--upgrade", action="store_true")
    flags.add_argument("--range", choices=["oldest", "newest"])
    flags.add_argument("--python", default=label(sys.version_info[:2]))
    flags.add_argument("extras", nargs="*")
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if given.range is not None:
            print(end_of_ranges(work, given.range, given.python, given.extras))
        else:
            write_all(work, upgrade=given.upgrade)


def write_all(work: Path, *, upgrade: bool) -> None:
    """Every file of `ENVIRONMENTS`."""
    LOCKS.mkdir(exist_ok=True)
    chosen: dict[str | None, list[Package]] = {None: []}
    versions = {
        name: versions_of(work, environment, name, upgrade=upgrade)
        for name, environment in ENVIRONMENTS.items()
        if environment.apart or name == WIDEST
    }
    for name, environment in ENVIRONMENTS.items():
        constraints = versions[name if environment.apart else WIDEST]
        packages = list(locked(work, environment.requirements(), constraints))
        chosen[name] = packages
        more = list(beyond(packages, chosen[environment.base]))
        write(name, environment, more, glibc=oldest_glibc(packages))


def versions_of(work: Path, environment: Environment, name: str, *, upgrade: bool) -> Path:
    """Choose versions for `environment`, those of the file that stands first; as constraints."""
    output = work / f"{name}.txt"
    if not upgrade:
        output.write_text("".join(standing(name)), encoding="utf-8")
    compile_(work, environment.requirements(), "--universal", "-o", str(output))
    return output


def standing(name: str) -> Iterator[str]:
    """The pins of a lock file and of those it begins with, without hashes."""
    path = LOCKS / f"{name}.txt"
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from standing(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith(("#", " ")):
            yield line.removesuffix("\\").rstrip() + "\n"


def locked(work: Path, requirements: Sequence[str], versions: Path) -> Iterator[Package]:
    """The packages that `requirements` come to at `versions`, each with its files."""
    output = work / "pylock.toml"
    compile_(work, requirements, "--universal", "-c", str(versions), "-o", str(output))
    found = tomllib.loads(output.read_text(encoding="utf-8"))["packages"]
    output.unlink()
    for entry in found:
        targets = [target for target in TARGETS if target.admits(entry.get("marker"))]
        if targets and not UNLOCKED.fullmatch(entry["name"]):
            files = {target: usable(entry, target) for target in targets}
            yield Package(entry["name"], entry["version"], files)


def usable(entry: Mapping[str, Any], target: Target) -> list[File]:
    """The wheels of a package that `target` can install; the source where there is none."""
    found = []
    for wheel in entry.get("wheels", ()):
        name = str(wheel.get("name") or wheel["url"].rpartition("/")[2])
        tags = TAGS[target] & parse_wheel_filename(name)[3]
        if tags:
            found.append(File(wheel["hashes"]["sha256"], min(glibc_of(tag) for tag in tags)))
    if not found:
        where = f"{target.machine}, Python {label(target.python)}"
        print(f"no wheel: {entry['name']} {entry['version']} on {where}", file=sys.stderr)
        found.append(File(entry["sdist"]["hashes"]["sha256"], 0))
    return found


def glibc_of(tag: Tag) -> int:
    """The minor version of glibc 2 that a wheel's tag asks for; 0 for none."""
    name = tag.platform.partition("_")[0]
    if name == "manylinux":
        return int(tag.platform.split("_")[2])
    return GLIBC_OF.get(name, 0)


def beyond(packages: Iterable[Package], base: Iterable[Package]) -> Iterator[Package]:
    """What a file has to hold that begins with `base`.

    Raises:
        SystemExit: the two have different versions of a package on a target.
    """
    held = {(package.name, target): package for package in base for target in package.targets}
    for package in sorted(packages, key=lambda package: (package.name, package.version)):
        missing = {}
        for target, files in package.files.items():
            other = held.get((package.name, target))
            if other is None:
                missing[target] = files
            elif other.version != package.version:
                raise SystemExit(f"{package.name}: two versions on {target}")
        if missing:
            yield Package(package.name, package.version, missing)


def oldest_glibc(packages: Iterable[Package]) -> dict[str, int]:
    """For each architecture, the oldest minor version of glibc 2 that all `packages` run with."""
    oldest = dict.fromkeys(ARCHITECTURES, 0)
    for package in packages:
        for target, files in package.files.items():
            needed = min(file.glibc for file in files)
            oldest[target.machine] = max(oldest[target.machine], needed)
    return oldest


def write(
    name: str, environment: Environment, packages: Sequence[Package], *, glibc: Mapping[str, int]
) -> None:
    """A lock file."""
    on = ", ".join(f"{machine} (glibc 2.{minor} or newer)" for machine, minor in glibc.items())
    lines = [
        f"# Written by `make locks` from pyproject.toml: what the environment {name!r} installs.",
        f"# For Linux on {on} and Python {label(PYTHONS[0])} to {label(PYTHONS[-1])}.",
    ]
    if {"exporters", "exporters-next"} & {*environment.extras}:
        lines.append("# torch is installed apart: docs/decisions/dependencies.md says how and why.")
    if environment.base is not None:
        lines.append(f"-r {environment.base}.txt")
    text = "\n".join([*lines, *(package.lines() for package in packages)]) + "\n"
    (LOCKS / f"{name}.txt").write_text(text, encoding="utf-8")


def marker_of(targets: Set[Target]) -> str:
    """The marker that holds on `targets` and on no other target.

    Raises:
        SystemExit: the Pythons are no unbroken run, or differ between architectures.
    """
    pythons = sorted({target.python for target in targets})
    machines = sorted({target.machine for target in targets})
    run = PYTHONS[PYTHONS.index(pythons[0]) : PYTHONS.index(pythons[-1]) + 1]
    if {Target(*pair) for pair in itertools.product(run, machines)} != targets:
        raise SystemExit(f"no marker for {sorted(targets)}")
    parts = []
    if pythons[0] != PYTHONS[0]:
        parts.append(f'python_version >= "{label(pythons[0])}"')
    if pythons[-1] != PYTHONS[-1]:
        parts.append(f'python_version <= "{label(pythons[-1])}"')
    if len(machines) < len(ARCHITECTURES):
        parts.append(f'platform_machine == "{machines[0]}"')
    return " ; " + " and ".join(parts) if parts else ""


def label(python: tuple[int, int]) -> str:
    """A Python as markers write it."""
    return f"{python[0]}.{python[1]}"


def end_of_ranges(work: Path, end: str, python: str, extras: Sequence[str]) -> str:
    """What nsedge with `extras` needs, at one end of the ranges that it declares."""
    strategy = "lowest-direct" if end == "oldest" else "highest"
    output = work / "range.txt"
    requirements = Environment(tuple(extras)).requirements()
    options = ["--resolution", strategy, "--python-version", python, "-o", str(output)]
    compile_(work, requirements, *options)
    pins = output.read_text(encoding="utf-8").splitlines()
    return "\n".join(pin for pin in pins if not UNLOCKED.fullmatch(pin.partition("==")[0]))


def compile_(work: Path, requirements: Sequence[str], *options: str) -> None:
    """Have uv resolve `requirements` under constraints.txt."""
    environments = [
        f"sys_platform == 'linux' and platform_machine == '{machine}'"
        f" and implementation_name == 'cpython' and python_version <= '{label(PYTHONS[-1])}'"
        for machine in ARCHITECTURES
    ]
    asked = work / "pyproject.toml"
    asked.write_text(
        f'[project]\nname = "asked"\nversion = "0"\n'
        f"requires-python = {json.dumps(PROJECT['project']['requires-python'])}\n"
        f"dependencies = {json.dumps(list(requirements))}\n"
        f"[tool.uv]\nenvironments = {json.dumps(environments)}\n",
        encoding="utf-8",
    )
    given = ["-c", str(CONSTRAINTS), "--no-header", "--no-annotate", "--quiet", *options]
    uv = str(Path(sys.executable).with_name("uv"))
    if subprocess.run([uv, "pip", "compile", *given, str(asked)], check=False).returncode:
        raise SystemExit("uv found no versions that fit together: its lines above say why")


if __name__ == "__main__":
    main()
