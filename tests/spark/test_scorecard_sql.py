"""The scorecard as Spark SQL: the same score as the library's, whatever is in the columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from platform_assets.fraud.scorecard_sql import part_sql, quote_text, score_sql
from platform_assets.fraud.training import fit
from tests.fraud_rows import END, KINDS, make_hard_rows, make_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROWS = 100_000


def test_score_in_spark_equals_the_library(spark: SparkSession, tmp_path: Path) -> None:
    model = fit(make_rows(), KINDS, END, 0.8, 1, END)
    card = dataclasses.replace(model.scorecard, slope=1.0, intercept=0.0)
    rows = make_hard_rows(card, ROWS).append_column("row", [np.arange(ROWS)])
    pq.write_table(rows, tmp_path / "rows.parquet")
    expressions = [f"{part_sql(part)} AS part_{place}" for place, part in enumerate(card.parts)]
    scored = spark.read.parquet(str(tmp_path / "rows.parquet")).selectExpr(
        "row", f"{score_sql(card)} AS score", f"{score_sql(model.scorecard)} AS calibrated", *expressions
    )
    found = {name: np.asarray(values) for name, values in scored.orderBy("row").toArrow().to_pydict().items()}
    assert [scored.schema[name].dataType.simpleString() for name in ("score", "part_0")] == ["double", "double"]
    steps = np.column_stack([each.apply(rows[each.feature]) for each in model.cuts])
    assert np.max(np.abs(found["score"] - model.classifier.predict_proba(steps)[:, 1])) < 1e-12
    assert np.max(np.abs(found["calibrated"] - model.scorecard.score(rows))) < 1e-12
    for place, part in enumerate(card.parts):
        assert (found[f"part_{place}"] == part.score(rows[part.feature])).all(), part.feature


def test_texts_of_every_kind_stay_what_they_are(spark: SparkSession) -> None:
    odd = ["", "'", "''", "\\", "\\n", "\n", "\0", '"', "${spark.app.name}", "$x", "ü書\U0001f4da", "a' OR 'b", "`"]
    row = spark.sql("SELECT " + ", ".join(map(quote_text, odd))).first()
    assert row is not None and list(row) == odd
