"""How often gates and intervals err, and how early a sequential gate stops: simulated, seeded, minutes on one core.

    python benchmarks/gate_simulation.py [--streams 5000] [--coverage 20000] [--seed 1]

Streams of 0/1 scores are drawn with a share of samples that change ("changed") and a true drop; nothing changed in
truth means that losses are as likely as wins. Each stream goes through the code that gates run. Continuous scores go
through the code that comparisons run. A line ends with "ok" where the figure keeps the limit stated beside it, else
with "MISSED"; the exit code is 1 if any did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from tuneboard import stats
from tuneboard.compare import effects
from tuneboard.gates import Policy, Rule, SequentialGate, Stream

ALPHA = 0.05
GSM8K, MMLU = 1319, 14_042
Counts = tuple[np.ndarray, np.ndarray]


class Report:
    """Prints tables and remembers what was missed."""

    def __init__(self) -> None:
        self.missed = 0

    def table(self, title: str, columns: Sequence[str]) -> None:
        print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")

    def row(self, cells: Sequence[object], kept: bool | None = None) -> None:
        mark = "" if kept is None else "ok" if kept else "MISSED"
        self.missed += kept is False
        print(f"| {' | '.join(map(str, [*cells, mark]))} |", flush=True)


def draw(schedule: stats.Schedule, changed: float, drop: float, streams: int, seed: int) -> Counts:
    """Running wins and losses after each batch, (streams, batches)."""
    sizes = np.diff([0, *schedule.ends])
    loss, win = (changed + drop) / 2, (changed - drop) / 2
    drawn = np.random.default_rng(seed).multinomial(
        np.broadcast_to(sizes, (streams, len(sizes))), [win, loss, 1 - win - loss]
    )
    return drawn[..., 0].cumsum(axis=1), drawn[..., 1].cumsum(axis=1)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def limited(share: float, limit: str) -> str:
    return f"{percent(share)} ({limit})"


def false_alarms(report: Report, streams: int, seed: int) -> None:
    report.table(
        f"False alarms: nothing changed in truth, {streams:,} streams, alpha 5 % one-sided, limit 5.0 %",
        ("samples", "changed", "margin", "gate fails", "E alone", "peeking at McNemar", "gate passes", ""),
    )
    for n, changes in ((164, (0.05, 0.11, 0.2)), (GSM8K, (0.05, 0.11, 0.15)), (MMLU, (0.11,))):
        schedule = stats.Schedule(n)
        for changed in changes:
            wins, losses = draw(schedule, changed, 0.0, streams, seed)
            alone = (stats.log_e_value(losses, wins) >= np.log(1 / ALPHA)).any(axis=1).mean()
            peeking = (stats.mcnemar(wins, losses, "less") <= ALPHA).any(axis=1).mean()
            # With a margin next to nothing, hardly a stream passes before it can fail: the worst case.
            for margin in (0.001, stats.supported_margin(n)):
                found = stats.run_flips("not_regress", margin, schedule, wins, losses)
                failed = found.failed.mean()
                cells = (f"{n:,}", percent(changed), f"{margin:.3f}", percent(failed), percent(alone), percent(peeking))
                report.row((*cells, percent(found.passed.mean())), failed <= ALPHA)


def drops(report: Report, streams: int, seed: int) -> None:
    report.table(
        f"A drop of 5 points, {streams:,} streams",
        ("samples", "changed", "margin", "gate fails", "gate passes", "samples seen", "90 % see at most", ""),
    )
    for changed in (0.11, 0.15):
        for margin in (0.01, 0.02, 0.023):
            schedule = stats.Schedule(GSM8K)
            found = stats.run_flips("not_regress", margin, schedule, *draw(schedule, changed, 0.05, streams, seed))
            failed, seen = found.failed.mean(), found.seen.mean() / GSM8K
            cells = (f"{GSM8K:,}", percent(changed), margin, limited(failed, ">= 80 %"), percent(found.passed.mean()))
            most = percent(float(np.quantile(found.seen, 0.9)) / GSM8K)
            report.row((*cells, limited(seen, "<= 40 %"), most), failed >= 0.8 and seen <= 0.4)


def no_change(report: Report, streams: int, seed: int) -> None:
    report.table(
        f"Nothing changed in truth, 11 % changed, {streams:,} streams; the limit is meant for MMLU with 2 points",
        ("samples", "margin", "gate passes", "gate fails", "samples seen", "seen by those that pass", ""),
    )
    for n, margin in ((GSM8K, 0.02), (GSM8K, 0.023), (MMLU, 0.007), (MMLU, 0.01), (MMLU, 0.02)):
        schedule = stats.Schedule(n)
        found = stats.run_flips("not_regress", margin, schedule, *draw(schedule, 0.11, 0.0, streams, seed))
        seen, passing = found.seen.mean() / n, found.seen[found.passed].mean() / n
        meant = (n, margin) == (MMLU, 0.02)
        cells = (f"{n:,}", margin, percent(found.passed.mean()), percent(found.failed.mean()))
        shown = limited(seen, "<= 40 %") if meant else percent(seen)
        report.row((*cells, shown, percent(passing)), seen <= 0.4 and passing <= 0.4 if meant else None)


def wrong_passes(report: Report, streams: int, seed: int) -> None:
    limit = ALPHA + 3 * (ALPHA * (1 - ALPHA) / streams) ** 0.5
    report.table(
        f"A drop of exactly the margin, {streams:,} streams, limit 5 % and three binomial errors: {percent(limit)}",
        ("samples", "changed", "margin", "gate passes", "gate fails", ""),
    )
    for n, changed, margin in ((164, 0.11, 0.064), (GSM8K, 0.11, 0.023), (GSM8K, 0.15, 0.023), (MMLU, 0.11, 0.007)):
        schedule = stats.Schedule(n)
        found = stats.run_flips("not_regress", margin, schedule, *draw(schedule, changed, margin, streams, seed))
        passed = found.passed.mean()
        cells = (f"{n:,}", percent(changed), margin, percent(passed), percent(found.failed.mean()))
        report.row(cells, passed <= limit)


def whole_gates(report: Report, seed: int) -> None:
    report.table(
        "A/A through the gate itself: 500 gates, 11 % change, limit 37 (99 % binomial limit of 5 %)",
        ("guards", "samples each", "gates that fail", "that pass", "samples seen", ""),
    )
    for guards, n in ((1, GSM8K), (4, 400)):
        policy = Policy("simulation", "base", "candidate", (Rule("not_regress"),))
        streams = [
            Stream(f"task{i}", "acc", "none", tuple((f"task{i}", doc) for doc in range(n))) for i in range(guards)
        ]
        random, verdicts, seen = np.random.default_rng(seed), [], 0
        for _ in range(500):
            gate = SequentialGate(policy, streams)
            while (batch := gate.next_batch()) is not None:
                drawn = random.random(len(batch.items))
                base = (drawn < 0.055) | (drawn > 0.5)
                mine = ((drawn >= 0.055) & (drawn < 0.11)) | (drawn > 0.5)
                gate.feed(batch, base.astype(float).tolist(), mine.astype(float).tolist())
                seen += len(batch.items)
            verdicts.append(gate.judge().verdict)
        failed = verdicts.count("fail")
        share = seen / 500 / guards / n
        report.row((guards, f"{n:,}", failed, verdicts.count("pass"), percent(share)), failed <= 37)


def fixed_gates(report: Report, seed: int) -> None:
    report.table(
        "A/A with all samples at once, 11 % change: the rule of `judge`, one guard",
        ("gates", "samples", "margin", "fail", "limit", "pass", ""),
    )
    for gates, limit in ((500, 37), (5000, 250)):
        for n, margin in ((164, 0.064), (GSM8K, 0.001), (GSM8K, 0.023)):
            drawn = np.random.default_rng(seed).multinomial(n, [0.055, 0.055, 0.89], gates)
            passed = stats.tango_bound(drawn[:, 0], drawn[:, 1], n) > -margin
            failed = int((~passed & (stats.mcnemar(drawn[:, 0], drawn[:, 1], "less") <= ALPHA)).sum())
            report.row((f"{gates:,}", f"{n:,}", margin, failed, limit, percent(passed.mean())), failed <= limit)


def bounded(report: Report, streams: int, seed: int) -> None:
    n, margin = 817, 0.03
    report.table(
        f"Bounded scores, by bets: {n} samples of which half change by 0.15 (standard deviation), margin {margin}, "
        f"{streams:,} streams; limits 5 % and three binomial errors",
        ("true drop", "gate fails", "gate passes", "samples seen", ""),
    )
    slack = 3 * (ALPHA * (1 - ALPHA) / streams) ** 0.5
    for drop in (0.0, margin, 0.05):
        random, failed, passed, seen = np.random.default_rng(seed), 0, 0, 0
        schedule = stats.Schedule(n)
        for _ in range(streams):
            gains = np.where(random.random(n) < 0.5, random.normal(-2 * drop, 0.15, n), 0.0).clip(-1, 1)
            outcome, end = bets(schedule, margin, gains)
            failed, passed, seen = failed + (outcome == "fail"), passed + (outcome == "pass"), seen + end
        kept = {0.0: failed / streams <= ALPHA, margin: passed / streams <= ALPHA + slack}.get(drop)
        report.row((drop, percent(failed / streams), percent(passed / streams), percent(seen / streams / n)), kept)


def bets(schedule: stats.Schedule, margin: float, gains: np.ndarray) -> tuple[str, int]:
    """Watch one stream of bounded differences."""
    largest = 0.0
    for at, end in enumerate(schedule.ends):
        evidence = stats.watch_scores("not_regress", margin, schedule, at, gains[:end])
        if evidence.passes:
            return "pass", end
        largest, last = max(largest, evidence.log_e), at == schedule.last
        p = stats.p_of_failing(largest, stats.last_p_of_scores("not_regress", margin, gains) if last else 1.0)
        if p <= schedule.alpha and (last or evidence.chance < stats.LIKELY):
            return "fail", end
    return "inconclusive", schedule.n


def exact_coverage(n: int, changed: float, difference: float) -> float:
    """Probability that Tango's 95 % interval holds the truth, over all outcomes of at least 1e-12."""
    from scipy.stats import binom

    low, high = binom.ppf([1e-10, 1 - 1e-10], n, changed).astype(int)
    total, up = np.meshgrid(np.arange(low, high + 1), np.arange(high + 1), indexing="ij")
    total, up = total[up <= total], up[up <= total]
    weight = binom.pmf(total, n, changed) * binom.pmf(up, total, (changed + difference) / 2 / changed)
    total, up, weight = total[weight > 1e-12], up[weight > 1e-12], weight[weight > 1e-12]
    lows, highs = stats.tango_interval(up, total - up, n)
    return float(weight[(lows <= difference) & (difference <= highs)].sum() / weight.sum())


def coverage(report: Report, times: int, seed: int) -> None:
    report.table(
        "Coverage of Tango's 95 % interval by enumeration; at least 93.5 %, and at most 96.5 % from 5 changes on",
        ("samples", "changed", "no difference", "least over true differences", "most", ""),
    )
    for n in (50, 164, GSM8K):
        for changed in (0.05, 0.11, 0.2):
            none = exact_coverage(n, changed, 0.0)
            found = [none, *(exact_coverage(n, changed, changed * share) for share in (-0.8, -0.4, 0.4, 0.8))]
            kept = min(found) >= 0.935 and (n * changed < 5 or max(found) <= 0.965)
            report.row((f"{n:,}", percent(changed), percent(none), percent(min(found)), percent(max(found))), kept)
    report.table(
        f"Coverage of 95 % intervals of other scores, {times:,} simulations; 93.5 to 96.5 %",
        ("scores", "samples", "coverage", ""),
    )
    # Their p-values are not looked at, and permutations would take hours.
    effects.MOST_PERMUTED = 0
    scores: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]]] = {
        "normal": (0.3, lambda random, shape: random.normal(0.3, 1.0, shape)),
        "bounded": (5 / 7 - 1 / 2, lambda random, shape: random.beta(5, 2, shape) - random.beta(2, 2, shape)),
    }
    for name, (truth, make) in scores.items():
        for n in (50, 164):
            random, held = np.random.default_rng(seed), 0
            for start in range(0, times, 500):
                rows = effects.score_effects(make(random, (n, min(500, times - start))), seed=start)
                held += sum(one.ci[0] <= truth <= one.ci[1] for one in rows)
            report.row((name, n, percent(held / times)), 0.935 <= held / times <= 0.965)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=5000, help="simulated streams per line (default 5000)")
    parser.add_argument("--coverage", type=int, default=20_000, help="simulated comparisons per line (default 20000)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started, report = time.perf_counter(), Report()
    false_alarms(report, args.streams, args.seed)
    drops(report, args.streams, args.seed)
    no_change(report, args.streams, args.seed)
    wrong_passes(report, args.streams, args.seed)
    fixed_gates(report, args.seed)
    whole_gates(report, args.seed)
    bounded(report, min(args.streams, 1000), args.seed)
    coverage(report, args.coverage, args.seed)
    kept = "Every limit is kept" if not report.missed else f"{report.missed} limits are missed"
    print(f"\n{kept}; {time.perf_counter() - started:.0f} s.")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
