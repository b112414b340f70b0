"""Pure statistics: single scores, paired differences, families of tests, power.

Everything is on the metric's own scale. Nothing here knows of tasks, models or databases; NumPy and SciPy are imported
where they are needed, because importing them takes longer than most commands run.

    single       intervals and standard errors of one score
    bootstrap    standard errors of corpus statistics
    classification   precision, recall, F1, Matthews' correlation; calibration: confidence against accuracy
    binary       paired 0/1 scores: Tango's interval and test, exact McNemar
    means        paired differences: t, clustered errors, permutation
    resampling   paired bootstrap (BCa) and swap tests, of means and corpus statistics
    multiple     Holm, Benjamini-Hochberg
    power        detectable effects, samples needed
    ranks        places among many scores
    sequential   evidence that may be looked at again and again
    monitoring   stopping rules for 0/1 scores; wagers: for bounded ones
"""

from tuneboard.stats.binary import mcnemar, tango_bound, tango_interval, tango_statistic, tango_test
from tuneboard.stats.bootstrap import (
    MAX_DRAWS,
    MAX_DRAWS_OF_SUMS,
    MIN_RESAMPLES,
    bootstrap_stderr,
    bootstrap_stderr_of_sums,
)
from tuneboard.stats.calibration import (
    Calibration,
    ReliabilityBin,
    Selection,
    calibration_of,
    choice_probabilities,
    reliability_bins,
)
from tuneboard.stats.classification import (
    LabelScore,
    average_scores,
    confusion,
    label_counts,
    label_scores,
    macro_f1,
    matthews,
)
from tuneboard.stats.means import MeanDifference, clustered_t, paired_t, permutation_test, weighted_mean
from tuneboard.stats.monitoring import (
    LARGEST_BATCH,
    LIKELY,
    Aim,
    Evidence,
    Runs,
    Schedule,
    bounds_of_flips,
    last_p_of_flips,
    p_of_failing,
    run_flips,
    watch_flips,
)
from tuneboard.stats.multiple import benjamini_hochberg, holm
from tuneboard.stats.power import detectable_flips, detectable_mean, needed_samples, supported_margin
from tuneboard.stats.ranks import rank_ranges
from tuneboard.stats.resampling import Bootstrap, ResampledScores, bootstrap_means, resample_scores, swap_test
from tuneboard.stats.sequential import (
    betting_interval,
    chance_to_pass,
    log_capital,
    log_e_value,
    spending_bounds,
    spent,
)
from tuneboard.stats.single import (
    Interval,
    clustered_score,
    group_interval,
    mean_interval,
    pass_at_k,
    pooled_stderr,
    single_score,
    stderr_of_mean,
    unweighted_stderr,
    wilson_interval,
)
from tuneboard.stats.wagers import (
    bounds_of_gains,
    bounds_of_scores,
    last_p_of_level,
    last_p_of_scores,
    watch_level,
    watch_scores,
)

__all__ = [
    "LARGEST_BATCH",
    "LIKELY",
    "MAX_DRAWS",
    "MAX_DRAWS_OF_SUMS",
    "MIN_RESAMPLES",
    "Aim",
    "Bootstrap",
    "Calibration",
    "Evidence",
    "Interval",
    "LabelScore",
    "MeanDifference",
    "ReliabilityBin",
    "ResampledScores",
    "Runs",
    "Schedule",
    "Selection",
    "average_scores",
    "benjamini_hochberg",
    "betting_interval",
    "bootstrap_means",
    "bootstrap_stderr",
    "bootstrap_stderr_of_sums",
    "bounds_of_flips",
    "bounds_of_gains",
    "bounds_of_scores",
    "calibration_of",
    "chance_to_pass",
    "choice_probabilities",
    "clustered_score",
    "clustered_t",
    "confusion",
    "detectable_flips",
    "detectable_mean",
    "group_interval",
    "holm",
    "label_counts",
    "label_scores",
    "last_p_of_flips",
    "last_p_of_level",
    "last_p_of_scores",
    "log_capital",
    "log_e_value",
    "macro_f1",
    "matthews",
    "mcnemar",
    "mean_interval",
    "needed_samples",
    "p_of_failing",
    "paired_t",
    "pass_at_k",
    "permutation_test",
    "pooled_stderr",
    "rank_ranges",
    "reliability_bins",
    "resample_scores",
    "run_flips",
    "single_score",
    "spending_bounds",
    "spent",
    "stderr_of_mean",
    "supported_margin",
    "swap_test",
    "tango_bound",
    "tango_interval",
    "tango_statistic",
    "tango_test",
    "unweighted_stderr",
    "watch_flips",
    "watch_level",
    "watch_scores",
    "weighted_mean",
    "wilson_interval",
]
