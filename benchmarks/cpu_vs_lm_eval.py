"""How long a base model and four adapters take here and with lm-eval's ``hf``, side by side, on this machine's CPU.

    python benchmarks/cpu_vs_lm_eval.py [--mirror DIR] [--only mmlu,hellaswag] [--scale 1.0]

Both sides are whole processes, timed from start to results: lm-eval runs once per candidate (as it must), tuneboard
once for all. Of MMLU, the longest, tuneboard runs before lm-eval and after it, and the mean counts: the machine's speed
may drift in between. Same model (a random 29 M-parameter Llama made on the spot), same adapters, same documents of the
real benchmarks, same number of threads, float32. Printed beside the ratio: tokens put through the model against the
number of distinct prefix tokens (the floor), time outside the engine, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from processes import Process, import_seconds, imported_by, run
from small_llama import make_adapters, make_model

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = 4
_IMPORTS = "torch, transformers, peft, datasets, lm_eval.api.task, pyarrow; from peft import PeftModel"


@dataclass(frozen=True)
class Workload:
    """One comparison: the same tasks and documents on both sides."""

    name: str
    tasks: str
    limit: int
    batch_size: int
    """lm-eval's: the fastest of 1, 4, 8, 16 and 32 for this work on two cores."""
    target: float
    gen_kwargs: str | None = None
    num_fewshot: int | None = None
    twice: bool = False
    """Whether tuneboard runs before lm-eval and after it."""


WORKLOADS = (
    # Two whole subjects. Together they need 7.4 times fewer tokens with shared prefixes; all of MMLU needs 7.3 times
    # fewer (13,675,678 against 1,882,268 with this tokenizer).
    Workload(
        "mmlu 5-shot", "mmlu_machine_learning,mmlu_college_computer_science", 1000, 1, 8.0, num_fewshot=5, twice=True
    ),
    Workload("hellaswag", "hellaswag", 400, 4, 3.0),
    Workload("truthfulqa mc", "truthfulqa_mc1,truthfulqa_mc2", 30, 4, 8.0),
    # One batch holds all six.
    Workload("gsm8k", "gsm8k", 6, 8, 1.5, "max_gen_toks=128"),
)


def lm_eval_side(
    work: Workload, candidates: Sequence[tuple[Path, Path | None]], folder: Path, args: Any, backend: str = "hf"
) -> list[Process]:
    """Run lm-eval once per candidate: a model, and an adapter on it or none."""
    done = []
    for number, (model, adapter) in enumerate(candidates):
        argv = [ROOT / "benchmarks/lm_eval_side.py", "--backend", backend, "--model", model, "--tasks", work.tasks]
        argv += ["--limit", limit(work, args), "--batch-size", "auto" if backend == "vllm" else work.batch_size]
        argv += [
            "--dtype",
            args.dtype,
            "--mirror",
            args.mirror,
            "--out",
            lm_eval_results(work, folder, number, backend),
        ]
        argv += ["--adapter", adapter] if adapter else []
        done.append(run([*argv, *settings(work)], args.environment))
    return done


def lm_eval_results(work: Workload, folder: Path, number: int, backend: str) -> Path:
    """File that lm-eval's results of one candidate go to."""
    return folder / f"{backend}-{work.name.split()[0]}-{number}.json"


def our_side(
    work: Workload, model: Path, adapters: Sequence[Path], folder: Path, args: Any, engine: str = "transformers"
) -> tuple[Process, Any]:
    """Run tuneboard once for all candidates, into a new database."""
    db = folder / f"{engine}-{work.name.split()[0]}.duckdb"
    db.unlink(missing_ok=True)
    words = our_words(work, model, adapters, args, engine)
    done = run(["-m", "tuneboard", *words, "--db", db], args.environment)
    return done, json.loads(done.output)


def our_words(work: Workload, model: Path, adapters: Sequence[Path], args: Any, engine: str) -> list[str]:
    """Words of the ``tuneboard`` command that evaluates a workload."""
    words = ["evaluate", "--model", model, "--tasks", work.tasks, "--limit", limit(work, args), "--mirror", args.mirror]
    words += ["--engine", engine, "--device", args.device, "--dtype", args.dtype, "--json", "--quiet"]
    for number, adapter in enumerate(adapters):
        words += ["--adapter", f"adapter-{number}={adapter}"]
    return [*map(str, words), *settings(work)]


def settings(work: Workload) -> list[str]:
    """Options that both sides take alike."""
    options = {"--gen-kwargs": work.gen_kwargs, "--num-fewshot": work.num_fewshot}
    return [str(part) for option, value in options.items() if value is not None for part in (option, value)]


def limit(work: Workload, args: Any) -> int:
    """Documents per task at the scale asked for."""
    return max(1, round(work.limit * args.scale))


def compare(work: Workload, model: Path, adapters: Sequence[Path], folder: Path, args: Any) -> dict[str, Any]:
    """Measure one workload on both sides and return its figures."""
    runs = [our_side(work, model, adapters, folder, args)]
    theirs = lm_eval_side(work, [(model, adapter) for adapter in (None, *adapters)], folder, args)
    if work.twice:
        runs.append(our_side(work, model, adapters, folder, args))
    for _, result in runs:
        check_equal(work, result, folder, "hf")
    tokens = [cell["tokens"] for cell in result["cells"] if cell["kind"] == "task"]
    ours_s = mean(process.seconds for process, _ in runs)
    outside = mean(seconds_outside(process, result["timing"]) for process, result in runs)
    return {
        "workload": work.name,
        "documents": sum(c["n"] for c in result["cells"] if c["kind"] == "task") // (ADAPTERS + 1),
        "lm_eval_s": sum(one.seconds for one in theirs),
        "ours_s": ours_s,
        "our_runs_s": [process.seconds for process, _ in runs],
        "ratio": sum(one.seconds for one in theirs) / ours_s,
        "target": work.target,
        "computed": sum(t["computed"] for t in tokens),
        "distinct": sum(t["distinct"] for t in tokens),
        "outside_s": outside,
        "outside_share": outside / ours_s,
        "peak_mib": max(process.peak_mib for process, _ in runs),
        "lm_eval_peak_mib": max(one.peak_mib for one in theirs),
    }


def seconds_outside(process: Process, timing: dict[str, float]) -> float:
    """Time of a run of tuneboard that is neither answering, nor loading the model, nor importing libraries."""
    return process.seconds - import_seconds(process, _IMPORTS) - timing["engine_s"] - timing["load_s"]


def check_equal(work: Workload, result: Any, folder: Path, backend: str) -> None:
    """Say where both sides give different scores: speeds of different answers are not compared."""
    names = ["base", *(f"adapter-{i}" for i in range(ADAPTERS))]
    for number, name in enumerate(names):
        theirs = json.loads(lm_eval_results(work, folder, number, backend).read_text())
        for cell in result["cells"]:
            if cell["candidate"] != name or cell["kind"] != "task":
                continue
            for metric in cell["metrics"]:
                other = theirs[cell["task"]][f"{metric['metric']},{metric['filter']}"]
                if abs(other - metric["value"]) > 1e-6:
                    print(f"  differs: {cell['task']} {name} {metric['metric']}: {other} there, {metric['value']} here")


def report(row: dict[str, Any]) -> str:
    """Lay out one workload's figures."""
    runs = " and ".join(f"{seconds:.1f}" for seconds in row["our_runs_s"])
    return (
        f"{row['workload']:14} {row['documents']:5} docs x {ADAPTERS + 1}: lm-eval {row['lm_eval_s']:7.1f} s, "
        f"tuneboard {runs} s, ratio {row['ratio']:5.2f} (target {row['target']})\n"
        f"{'':14} tokens computed {row['computed']:,} / distinct {row['distinct']:,} = "
        f"{row['computed'] / row['distinct']:.3f}; outside the engine {row['outside_s']:.1f} s "
        f"({100 * row['outside_share']:.1f} %); peak memory {row['peak_mib']:.0f} MiB, lm-eval "
        f"{row['lm_eval_peak_mib']:.0f} MiB ({row['peak_mib'] / row['lm_eval_peak_mib']:.2f}x)"
    )


def workload_options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that has what every measurement of workloads takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mirror", type=Path, default=os.environ.get("TUNEBOARD_MIRROR", ROOT.parent / "shared/mirror")
    )
    parser.add_argument("--only", default="", help="workloads whose name starts so, with commas")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the documents")
    parser.add_argument("--work", type=Path, default=ROOT / "results/bench", help="folder for models and results")
    return parser


def main() -> None:
    """Measure all workloads and print a line for each."""
    parser = workload_options(__doc__)
    args = parser.parse_args()
    args.mirror, args.device, args.dtype, args.environment = Path(args.mirror), "cpu", "float32", {}
    if not args.mirror.is_dir():
        sys.exit(f"skipped: no mirror of the data sets at {args.mirror}; give --mirror DIR")
    args.work.mkdir(parents=True, exist_ok=True)
    model = make_model(args.work, args.mirror)
    adapters = make_adapters(args.work, model, ADAPTERS)
    # Whichever side comes first is not to be the one that meets a cold disk.
    imported_by(_IMPORTS)
    rows = []
    for work in WORKLOADS:
        if any(work.name.startswith(name) for name in args.only.split(",")):
            rows.append(compare(work, model, adapters, args.work, args))
            print(report(rows[-1]), flush=True)
    (args.work / "cpu_vs_lm_eval.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
