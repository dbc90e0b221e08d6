"""Pictures of a version for its page in Dagster: how well it tells fraud, how true its scores are, what weighs most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.fraud.quality import CalibrationBin, Curve
from platform_assets.reports.pictures import BAR_COLOR, TEXT_COLOR, as_markdown, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from platform_assets.fraud.scorecard import Scorecard

_OTHER_COLOR = "#c0702a"

# More are not read, and the last of them weigh nothing.
_MOST_FEATURES = 12


def draw_precision_recall(curves: Sequence[tuple[str, Curve]]) -> str:
    """A Markdown image: precision by recall of two ways to tell fraud, each with its name."""
    figure, axes = new_figure("Precision by recall, on payments it never saw")
    for (name, curve), color in zip(curves, (BAR_COLOR, _OTHER_COLOR), strict=True):
        axes.step(curve.recall, curve.precision, where="post", color=color, label=name, linewidth=1.4)
    axes.set_xlabel("share of the fraud that is found (recall)")
    axes.set_ylabel("share of alerts that are fraud")
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    _use_shares(axes)
    return as_markdown(figure, "Precision by recall")


def draw_calibration(bins: Sequence[CalibrationBin]) -> str:
    """A Markdown image: which share of payments with a score was fraud; on the line both are the same."""
    figure, axes = new_figure("Of payments with this score, so many were fraud")
    axes.plot([0, 1], [0, 1], ":", color=TEXT_COLOR, linewidth=1)
    scores, shares = [each.mean_score for each in bins], [each.fraud_share for each in bins]
    axes.plot(scores, shares, "o-", color=BAR_COLOR, markersize=4)
    for each in bins:
        axes.annotate(f"{each.rows:,}", (each.mean_score, each.fraud_share), fontsize=6, color=TEXT_COLOR,
                      textcoords="offset points", xytext=(3, -8))  # fmt: skip
    axes.set_xlabel("score")
    axes.set_ylabel("share that was fraud")
    _use_shares(axes)
    return as_markdown(figure, "Calibration")


def draw_weights(scorecard: Scorecard) -> str:
    """A Markdown image: how far each feature moves the score of a usual payment, the greatest first."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    found = sorted(weigh_features(scorecard).items(), key=lambda item: item[1])[-_MOST_FEATURES:]
    figure, axes = new_figure("How far a feature moves the raw score (standard deviation)")
    axes.set_position((0.24, 0.1, 0.74, 0.77))
    axes.grid(axis="y", visible=False)
    axes.barh([name for name, _ in found], [weight for _, weight in found], color=BAR_COLOR, height=0.7)
    axes.yaxis.set_major_locator(FixedLocator(range(len(found))))
    axes.yaxis.set_major_formatter(FixedFormatter([name for name, _ in found]))
    axes.tick_params(axis="y", labelsize=7)
    return as_markdown(figure, "What the features weigh")


def weigh_features(scorecard: Scorecard) -> dict[str, float]:
    """The standard deviation of each part over the rows of the training: 0 for a feature that changes no score."""
    weights = {}
    for part in scorecard.parts:
        values = (*part.values, part.missing)
        mean = sum(share * value for share, value in zip(part.shares, values, strict=True))
        spread = sum(share * (value - mean) ** 2 for share, value in zip(part.shares, values, strict=True))
        weights[part.feature] = float(spread**0.5)
    return weights


def _use_shares(axes: Axes) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
