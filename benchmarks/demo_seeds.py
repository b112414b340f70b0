"""What ``tuneboard demo`` comes to on fresh seeds, each a world, a base and candidates of its own.

    python benchmarks/demo_seeds.py                     seeds 11, 12, 13; some three minutes each on two quiet cores
    python benchmarks/demo_seeds.py 14 15 --json o.json

For each seed, in a folder of its own: the scores of base and candidates, the gate's verdicts, and what it took. Then
whether the demonstration holds there: the base is at least 25 points above chance on four tasks of five; the candidate
with the new skill only gains 60 points and loses 30 on a guard, and the gate fails it; the one with replay gains 60 and
passes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHANCE = {"demo_knowledge": 0.25, "demo_continuation": 0.25, "demo_math": 0.0, "demo_code": 0.0, "demo_truth": 0.25}
TARGET = "demo_subtraction"
TASKS = (TARGET, *CHANCE)


def demo(seed: int, folder: Path) -> dict[str, Any]:
    """Run one demo in a process of its own, and time it."""
    command = [sys.executable, "-m", "tuneboard", "demo", "--seed", str(seed), "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = time.monotonic()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return {
        **json.loads(done.stdout),
        "wall_s": wall_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gib": after.ru_maxrss / 2**20,
        "again_s": time.monotonic() - again,
    }


def scores(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return headline rows by candidate and task."""
    return {
        one["name"]: {row["task"]: row for row in one["tasks"] if row["headline"] and row["task"] in TASKS}
        for one in content["compare"]["candidates"]
    }


def shortfalls(content: dict[str, Any]) -> list[str]:
    """Return what does not hold on a seed."""
    rows, verdicts, found = scores(content), content["verdicts"], []
    skill, replay = rows["tiny-skill"], rows["tiny-replay"]
    above = [task for task, level in CHANCE.items() if skill[task]["base"] > level + 0.25]
    if len(above) < 4:
        found.append(f"base above chance on {len(above)} tasks only")
    for name, own in (("tiny-skill", skill), ("tiny-replay", replay)):
        if own[TARGET]["delta"] < 0.6:
            found.append(f"{name} gains {own[TARGET]['delta']:.2f} only")
    if min(skill[task]["delta"] for task in CHANCE) > -0.3:
        found.append("tiny-skill loses less than 0.3 on every guard")
    for name, wanted in (("tiny-skill", "fail"), ("tiny-replay", "pass")):
        if verdicts[name] != wanted:
            found.append(f"{name}: {verdicts[name]}, expected {wanted}")
    return found


def table(content: dict[str, Any]) -> str:
    """Return the scores of a seed as Markdown."""
    rows = scores(content)
    titles = " | ".join(task.removeprefix("demo_") for task in TASKS)
    lines = [f"| seed {content['seed']} | {titles} | gate |", "|---|" + "---:|" * len(TASKS) + "---|"]
    base = next(iter(rows.values()))
    cells = " | ".join(f"{100 * base[task]['base']:.0f}" for task in TASKS)
    lines.append(f"| tiny-base | {cells} | |")
    for name, own in rows.items():
        cells = " | ".join(f"{100 * own[task]['candidate']:.0f}" for task in TASKS)
        lines.append(f"| {name} | {cells} | {content['verdicts'][name]} |")
    cost = f"{content['wall_s']:.0f} s ({content['cpu_s']:.0f} CPU-s), {content['peak_gib']:.1f} GiB"
    return "\n".join([*lines, "", f"{cost}; a second call {content['again_s']:.0f} s"])


def main() -> int:
    """Run all seeds; exit code 1 if the demonstration fails on one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="*", type=int, default=[11, 12, 13])
    parser.add_argument("--json", type=Path, metavar="F", help="write everything that the demos found")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores", flush=True)
    all_found, failed = [], False
    for seed in args.seeds:
        with tempfile.TemporaryDirectory(prefix="tuneboard-") as folder:
            content = demo(seed, Path(folder))
        all_found.append(content)
        short = shortfalls(content)
        failed |= bool(short)
        print(f"\n{table(content)}\n{'; '.join(short) or 'the demonstration holds'}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(all_found, indent=1), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
