"""Whether many adapters cost more than so many times one, in one vLLM engine that holds a few at a time.

    python benchmarks/vllm_many_adapters.py [--mirror DIR] [--adapters 32] [--max-loras 4] [--scale 1.0]

Three evaluations of a random 29 M-parameter Llama on one MMLU subject, whole, 5-shot: the base alone, the base with one
adapter, the base with all of them. What one adapter adds to the base's seconds is its marginal cost; the last line
holds what all of them add against that many marginal costs. Scoring is part of the seconds; imports, loading at the
start and canary prompts are not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from cpu_vs_lm_eval import Workload, our_words, workload_options
from processes import run
from small_llama import make_adapters, make_model
from vllm_vs_lm_eval import ON_CPU

MOST_OVER_MARGINAL = 1.3
WORK = Workload("mmlu 5-shot", "mmlu_machine_learning", 1000, 1, MOST_OVER_MARGINAL, num_fewshot=5)


def answer_seconds(name: str, model: Path, adapters: Sequence[Path], args: Any) -> float:
    """Evaluate the base and some adapters into a new database; returns the seconds that their answers took."""
    db = args.work / f"many-{name}.duckdb"
    db.unlink(missing_ok=True)
    words = [*our_words(WORK, model, adapters, args, "vllm"), "--max-loras", str(args.max_loras), "--db", str(db)]
    found = json.loads(run(["-m", "tuneboard", *words], args.environment).output)
    tasks = [cell for cell in found["cells"] if cell["kind"] == "task"]
    assert len(tasks) == len(adapters) + 1 and all(cell["status"] == "done" and not cell["failed"] for cell in tasks)
    seconds = sum(float(cell["seconds"]) for cell in tasks)
    computed = sum(cell["tokens"]["computed"] for cell in tasks)
    print(
        f"{name:12} {len(tasks):3} candidates x {tasks[0]['n']} documents: {seconds:7.2f} s, {computed:,} tokens",
        flush=True,
    )
    return seconds


def main() -> int:
    """Measure and print; returns 1 where the bound is missed."""
    parser = workload_options(__doc__)
    parser.add_argument("--adapters", type=int, default=32)
    parser.add_argument("--max-loras", type=int, default=4, help="adapters that the engine holds at a time")
    args = parser.parse_args()
    args.mirror, args.device, args.dtype, args.environment = Path(args.mirror), "cpu", "float32", ON_CPU
    if not args.mirror.is_dir():
        sys.exit(f"skipped: no mirror of the data sets at {args.mirror}; give --mirror DIR")
    args.work = args.work / "vllm-29m-float32"
    args.work.mkdir(parents=True, exist_ok=True)
    model = make_model(args.work, args.mirror)
    adapters = make_adapters(args.work, model, args.adapters)
    base = answer_seconds("base", model, [], args)
    marginal = answer_seconds("one adapter", model, adapters[:1], args) - base
    added = answer_seconds("all adapters", model, adapters, args) - base
    ratio = added / (args.adapters * marginal)
    kept = ratio <= MOST_OVER_MARGINAL
    print(
        f"{args.adapters} adapters in {args.max_loras} slots add {added:.1f} s, {args.adapters} times one "
        f"{args.adapters * marginal:.1f} s: {ratio:.2f} (limit {MOST_OVER_MARGINAL}) {'ok' if kept else 'MISSED'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
