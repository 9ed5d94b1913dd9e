"""Figures of a run: each function takes the results of `run_main_job` and returns a matplotlib `Figure`.

Made to be read 900 pixels wide, with and without colour: each system keeps one colour, hatch and marker throughout. The alt text
is the figure's label, computed from the same numbers: `figure.get_label()`. Nothing here touches pyplot or other global state.
"""

from ftlab.plots.continued import continued_curve, continued_effects
from ftlab.plots.course import (
    agreement_bars,
    baseline_growth,
    cause_bars,
    chance_lead,
    cluster_bars,
    coverage_map,
    deciders,
    forced_against_written,
    found_table,
    group_shares,
    label_matrix,
    minhash_estimates,
    paired_differences,
    refusal_plane,
    reliability,
    review_lines,
    rows_curves,
    share_lines,
    share_points,
)
from ftlab.plots.frame import STYLES
from ftlab.plots.inside import inspection_figure, xray_figure
from ftlab.plots.levers import against_bar, grouped_bars, hours_bars, lever_matrix, predicted_times, reading_lines
from ftlab.plots.live import ladder_steps, next_token_bars, review_bars
from ftlab.plots.pretraining import effects, pretraining_curve, scaling
from ftlab.plots.results import (
    FIGURES,
    class_intervals,
    compared_bars,
    failure_flow,
    growth_curves,
    learning_curves,
    methods_comparison,
    score_bars,
    score_ladder,
)

__all__ = [
    "FIGURES",
    "STYLES",
    "against_bar",
    "agreement_bars",
    "baseline_growth",
    "cause_bars",
    "chance_lead",
    "class_intervals",
    "cluster_bars",
    "compared_bars",
    "continued_curve",
    "continued_effects",
    "coverage_map",
    "deciders",
    "effects",
    "failure_flow",
    "forced_against_written",
    "found_table",
    "group_shares",
    "grouped_bars",
    "growth_curves",
    "hours_bars",
    "inspection_figure",
    "label_matrix",
    "ladder_steps",
    "learning_curves",
    "lever_matrix",
    "methods_comparison",
    "minhash_estimates",
    "next_token_bars",
    "paired_differences",
    "predicted_times",
    "pretraining_curve",
    "reading_lines",
    "refusal_plane",
    "reliability",
    "review_bars",
    "review_lines",
    "rows_curves",
    "scaling",
    "score_bars",
    "score_ladder",
    "share_lines",
    "share_points",
    "xray_figure",
]
