"""How long a base model and four adapters take in the vLLM engine, and with lm-eval's ``vllm``, side by side.

    python benchmarks/vllm_vs_lm_eval.py [--mirror DIR] [--only mmlu,hellaswag] [--scale 1.0]      on a CPU
    python benchmarks/vllm_vs_lm_eval.py --gpu [--shape 8b]                                        on a GPU

Both sides are whole processes, timed from start to results: lm-eval runs once per candidate (batch size auto),
tuneboard once for all. Same model, adapters, documents and threads. On a CPU the model is a random 29 M-parameter Llama
in float32, and merged checkpoints stand in for the adapters on lm-eval's side, since LoRA with prompt log-probabilities
ends vLLM there (merged, they run faster than adapters do). With ``--gpu`` it is a random Llama of 8 billion parameters
in bfloat16, made on the spot, and lm-eval gets the adapters.

Printed beside the ratio: tokens put through the model against the number of distinct prefix tokens (the floor); the
seconds that the engine takes against those of bare ``LLM.generate`` with the same prompts ready-made, in one process;
tokens a second; and the share of the matrix-product rate of this device and data type, measured in the same run, that
these tokens make up (2 operations per weight of a linear layer and token; attention and the LM head apart).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from cpu_vs_lm_eval import (
    ADAPTERS,
    ROOT,
    WORKLOADS,
    Workload,
    check_equal,
    lm_eval_side,
    our_side,
    our_words,
    workload_options,
)
from processes import import_seconds, run
from small_llama import SHAPES, linear_weights, make_adapters, make_merged, make_model

#: Ratios to reach on a CPU.
TARGETS = {"mmlu 5-shot": 15.0, "hellaswag": 3.0, "gsm8k": 2.0}
MOST_OVER_BARE = 1.05
#: vLLM divides by the seconds that its progress bar has seen, which are none where bars are turned off.
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": ""}
#: In the process of this program vLLM loads in 3 s, in one of its own in 14 s: both sides get the former.
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **QUIET}
#: lm-eval's ``vllm`` puts every choice through the model with all its examples: a CPU gets documents for half an hour,
#: a GPU, which answers in a second what takes a CPU minutes, the whole of these.
_CPU_LIMITS = {"mmlu 5-shot": 50, "hellaswag": 400, "gsm8k": 6}
_GPU_LIMITS = {"mmlu 5-shot": 100_000, "hellaswag": 2000, "gsm8k": 256}
_IMPORTS = "torch, transformers, vllm, datasets, lm_eval.api.task, pyarrow"
_MATMUL = """
import sys, time, torch
device, dtype, size = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
best = float("inf")
for _ in range(12):
    wait()
    started = time.perf_counter()
    a @ b
    wait()
    best = min(best, time.perf_counter() - started)
print(2 * size**3 / best)
"""


def matmul_rate(args: Any) -> float:
    """Operations a second of the best of twelve large matrix products, in a process of its own."""
    device, size = ("cuda", 8192) if args.gpu and args.device != "cpu" else ("cpu", 2048)
    words = [sys.executable, "-c", _MATMUL, device, args.dtype, str(size)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def workloads(args: Any) -> list[Workload]:
    """The same work as for ``hf``, with targets of its own."""
    chosen = []
    for work in WORKLOADS:
        if work.name in TARGETS and any(work.name.startswith(name) for name in args.only.split(",")):
            limits = _GPU_LIMITS if args.gpu and args.shape == "8b" else _CPU_LIMITS
            chosen.append(replace(work, target=TARGETS[work.name], limit=limits[work.name]))
    return chosen


def compare(work: Workload, model: Path, adapters: Sequence[Path], args: Any) -> dict[str, Any]:
    """Measure one workload and return its figures."""
    ours, result = our_side(work, model, adapters, args.work, args, "vllm")
    bare = json.loads(
        run([ROOT / "benchmarks/bare_vllm.py", *_again(work, model, adapters, args)], args.environment).output
    )
    tokens = [cell["tokens"] for cell in result["cells"] if cell["kind"] == "task"]
    timing, computed = result["timing"], sum(one["computed"] for one in tokens)
    answering = sum(cell["seconds"] for cell in result["cells"] if cell["kind"] == "task")
    row = {
        "workload": work.name,
        "documents": sum(c["n"] for c in result["cells"] if c["kind"] == "task") // (ADAPTERS + 1),
        "ours_s": ours.seconds,
        "imports_s": import_seconds(ours, _IMPORTS),
        "load_s": timing["load_s"],
        "engine_s": timing["engine_s"],
        "computed": computed,
        "distinct": sum(one["distinct"] for one in tokens),
        "tokens_s": computed / answering,
        "rate_share": 2 * linear_weights(model) * computed / answering / args.rate,
        "checked_engine_s": bare["engine_s"],
        "bare_s": bare["bare_s"],
        "target": work.target,
    }
    if not args.no_lm_eval:
        candidates = [(model, adapter) for adapter in (None, *adapters)]
        if args.device == "cpu":
            candidates = [(path, None) for path in (model, *make_merged(args.work, model, adapters))]
        theirs = lm_eval_side(work, candidates, args.work, args, "vllm")
        check_equal(work, result, args.work, "vllm")
        row["lm_eval_s"] = sum(one.seconds for one in theirs)
    return row


def _again(work: Workload, model: Path, adapters: Sequence[Path], args: Any) -> list[str]:
    db = args.work / f"bare-{work.name.split()[0]}.duckdb"
    db.unlink(missing_ok=True)
    return [*our_words(work, model, adapters, args, "vllm"), "--db", str(db)]


def report(row: dict[str, Any]) -> str:
    """Lay out one workload's figures."""
    head = f"{row['workload']:14} {row['documents']:5} docs x {ADAPTERS + 1}: "
    if "lm_eval_s" in row:
        ratio = row["lm_eval_s"] / row["ours_s"]
        head += f"lm-eval {row['lm_eval_s']:.1f} s, tuneboard {row['ours_s']:.1f} s, ratio {ratio:.2f}"
        head += f" (target {row['target']:g} on a CPU)"
    else:
        head += f"tuneboard {row['ours_s']:.1f} s"
    outside = row["ours_s"] - row["imports_s"] - row["load_s"] - row["engine_s"]
    over = row["checked_engine_s"] / row["bare_s"]
    per_distinct = row["computed"] / row["distinct"]
    lines = [
        head,
        f"tokens computed {row['computed']:,} / distinct {row['distinct']:,} = {per_distinct:.3f}; "
        f"{row['tokens_s']:,.0f} tokens/s, {100 * row['rate_share']:.1f} % of the matrix-product rate",
        f"engine {row['checked_engine_s']:.2f} s against bare LLM.generate {row['bare_s']:.2f} s: {over:.3f} "
        f"(target {MOST_OVER_BARE}); of the whole: imports {row['imports_s']:.1f} s, loading {row['load_s']:.1f} s, "
        f"engine {row['engine_s']:.1f} s, the rest {outside:.1f} s",
    ]
    return "\n               ".join(lines)


def main() -> None:
    """Measure all workloads and print some lines for each."""
    parser = workload_options(__doc__)
    parser.add_argument("--gpu", action="store_true", help="the sizes and data type of a GPU")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="of the model (default 29m; with --gpu, 8b)")
    parser.add_argument("--device", choices=["auto", "cpu"], help="cpu tries the sizes of a GPU on a CPU")
    parser.add_argument("--no-lm-eval", action="store_true", help="measure tuneboard alone")
    args = parser.parse_args()
    args.mirror = Path(args.mirror)
    if not args.mirror.is_dir():
        sys.exit(f"skipped: no mirror of the data sets at {args.mirror}; give --mirror DIR")
    args.shape = args.shape or ("8b" if args.gpu else "29m")
    args.device = args.device or ("auto" if args.gpu else "cpu")
    args.dtype = "bfloat16" if args.gpu else "float32"
    args.environment = ON_CPU if args.device == "cpu" else QUIET
    args.work = args.work / f"vllm-{args.shape}-{args.dtype}"
    args.work.mkdir(parents=True, exist_ok=True)
    model = make_model(args.work, args.mirror, args.shape, args.dtype)
    adapters = make_adapters(args.work, model, ADAPTERS)
    args.rate = matmul_rate(args)
    print(f"{args.shape} in {args.dtype}; matrix products: {args.rate / 1e12:.2f} TFLOP/s", flush=True)
    rows = []
    for work in workloads(args):
        rows.append(compare(work, model, adapters, args))
        print(report(rows[-1]), flush=True)
    (args.work / "vllm_vs_lm_eval.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
