"""The scorecard is the library's model: the same numbers for rows of every kind, and after a journey through JSON."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from platform_assets.errors import NotReadyError, UsageError
from platform_assets.fraud.platt import fit_platt
from platform_assets.fraud.quality import compare_with_outcomes, draw_curve, find_threshold, measure
from platform_assets.fraud.scorecard import Part, Scorecard, to_probability
from platform_assets.fraud.training import TrainedModel, fit, read_labels, split_by_time
from tests.fraud_rows import BEGIN, END, KINDS, make_hard_rows, make_rows


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return fit(make_rows(), KINDS, END, 0.8, 3, END)


def predict(model: TrainedModel, rows: pa.Table) -> np.ndarray:
    """The library's own probability."""
    steps = np.column_stack([each.apply(rows[each.feature]) for each in model.cuts])
    return np.asarray(model.classifier.predict_proba(steps)[:, 1])


def test_scorecard_equals_the_library_on_rows_of_every_kind(model: TrainedModel) -> None:
    uncalibrated = dataclasses.replace(model.scorecard, slope=1.0, intercept=0.0)
    rows = make_hard_rows(model.scorecard, 30_000)
    assert np.max(np.abs(uncalibrated.score(rows) - predict(model, rows))) < 1e-12


def test_parts_are_counted_from_the_average_of_the_training(model: TrainedModel) -> None:
    for part in model.scorecard.parts:
        assert sum(part.shares) == pytest.approx(1)
        assert abs(np.dot(part.shares, [*part.values, part.missing])) < 1e-9
        assert np.mean(part.score(model.split.train[part.feature])) == pytest.approx(0, abs=1e-9)


def test_json_keeps_every_bit(model: TrainedModel) -> None:
    assert Scorecard.from_json(model.scorecard.to_json()) == model.scorecard


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Scorecard"):
        Scorecard.from_json(text)


def test_a_part_whose_tables_do_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="amount"):
        Part("amount", "number", 0.0, (1.0, 2.0), (0.5, 0.5, 0.0), thresholds=(2.0, 1.0))


def test_categories_that_were_not_trained_with_count_as_missing(model: TrainedModel) -> None:
    part = next(part for part in model.scorecard.parts if part.feature == "channel")
    column = pa.chunked_array([["teleport", None, "online"]])
    assert part.score(column).tolist()[:2] == [part.missing] * 2
    assert part.score(column)[2] > 0


def test_training_twice_gives_the_same_scorecard(model: TrainedModel) -> None:
    shuffled = make_rows().take(np.random.default_rng(5).permutation(20_000))
    assert fit(shuffled, KINDS, END, 0.8, 3, END).scorecard == model.scorecard


def test_calibrated_scores_are_probabilities_on_rows_never_seen(model: TrainedModel) -> None:
    rows = make_rows(60_000, seed=9)
    scores, labels = model.scorecard.score(rows), read_labels(rows)
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.1)
    for found in compare_with_outcomes(scores, labels):
        error = np.sqrt(found.mean_score * (1 - found.mean_score) / found.rows)
        assert abs(found.fraud_share - found.mean_score) < 5 * error + 0.05


def test_alerts_are_fraud_in_the_share_that_was_asked_for(model: TrainedModel) -> None:
    scores, labels = model.scorecard.score(model.split.calibrate), read_labels(model.split.calibrate)
    alerts = scores >= model.scorecard.threshold
    assert 0.8 <= labels[alerts].mean() < 0.9
    assert measure(scores, labels).precision >= 0.8, "at the compared recall there is more precision"


def test_rows_are_split_by_time_and_those_without_a_label_are_left_out() -> None:
    rows = make_rows(9_000)
    labels = pa.array([None if place % 3 == 0 else label for place, label in enumerate(rows["label"].to_pylist())])
    rows = rows.set_column(rows.schema.get_field_index("label"), "label", labels)
    until = BEGIN + (END - BEGIN) / 2
    split = split_by_time(rows, until)
    times = [(min(part["event_time"].to_pylist()), max(part["event_time"].to_pylist())) for part in
             (split.train, split.calibrate, split.test)]  # fmt: skip
    assert times[0][1] <= times[1][0] and times[1][1] <= times[2][0] and times[2][1] <= until
    assert sum(len(part) for part in (split.train, split.calibrate, split.test)) == sum(
        label is not None and time <= until
        for label, time in zip(labels.to_pylist(), rows["event_time"].to_pylist(), strict=True)
    )


def test_a_feature_of_which_nothing_is_known_adds_nothing(model: TrainedModel) -> None:
    rows = make_rows(9_000)
    for name, kind in (("noise", pa.float64()), ("channel", pa.string())):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.nulls(len(rows), kind))
    card = fit(rows, KINDS, END, 0.8, 1, END).scorecard
    parts = {part.feature: part for part in card.parts}
    assert set(parts) == set(KINDS)
    assert parts["noise"].score(pa.chunked_array([[1.0, None]])).tolist() == [0, 0]
    assert parts["channel"].score(pa.chunked_array([["online", None]])).tolist() == [0, 0]
    assert Scorecard.from_json(card.to_json()) == card


def test_too_few_cases_are_said_with_their_number() -> None:
    with pytest.raises(NotReadyError, match="are known as fraud; each side needs 10"):
        fit(make_rows(600), KINDS, END, 0.8, 1, END)


def test_platt_finds_the_curve_that_the_labels_were_drawn_from() -> None:
    rng = np.random.default_rng(3)
    raw = rng.normal(-2, 3, 200_000)
    labels = rng.random(len(raw)) < to_probability(0.7 * raw - 1)
    assert fit_platt(raw, labels) == pytest.approx((0.7, -1), abs=0.03)


def test_platt_stays_finite_where_scores_separate_the_labels_and_refuses_scores_that_fall() -> None:
    raw, labels = np.array([-5.0] * 50 + [5.0] * 50), np.array([False] * 50 + [True] * 50)
    slope, _ = fit_platt(raw, labels)
    assert 0 < slope < 2
    with pytest.raises(NotReadyError, match="do not rise"):
        fit_platt(-raw, labels)


def test_a_sample_of_the_honest_gives_the_scores_of_all() -> None:
    rows = make_rows(60_000, seed=3)
    honest = np.flatnonzero(~read_labels(rows))
    kept = np.sort(np.concatenate([np.flatnonzero(read_labels(rows)), honest[::5]]))
    of_sample, of_all = fit(rows.take(kept), KINDS, END, 0.8, 1, END, 5), fit(rows, KINDS, END, 0.8, 1, END)
    others = make_rows(40_000, seed=4)
    scores, labels = of_sample.scorecard.score(others), read_labels(others)
    assert scores.mean() == pytest.approx(labels.mean(), rel=0.1), "a share of all payments, not of the sample"
    assert of_sample.scorecard.threshold == pytest.approx(of_all.scorecard.threshold, abs=0.2)
    weights = np.where(labels, 1.0, 5.0)
    sampled = np.sort(np.concatenate([np.flatnonzero(labels), np.flatnonzero(~labels)[::5]]))
    whole, part = measure(scores, labels), measure(scores[sampled], labels[sampled], weights[sampled])
    assert part.rows == pytest.approx(whole.rows, abs=5)
    for name in ("precision", "average_precision", "brier"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), abs=0.02), name


def test_curve_holds_equal_scores_for_one_point() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.1])
    labels = np.array([True, True, False, False])
    curve = draw_curve(scores, labels)
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert curve.recall.tolist() == [0.5, 1, 1]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 0.5])
    assert curve.precision_at(0.8) == pytest.approx(2 / 3)
    assert curve.average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert find_threshold(scores, labels, 0.9) == 0.9
    assert find_threshold(scores, labels, 0.6) == 0.5
    assert find_threshold(scores, ~labels, 0.9) == 0.1, "never so precise: where it comes nearest"
