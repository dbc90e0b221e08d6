"""Alert rules, their cases, the runbook and the dashboard go by the one list of metrics."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.build_dashboard import DASHBOARD, build_dashboard
from jobs.supervision.model import Phase
from jobs.watching.metric_specs import METRICS
from tests.unit.test_pages import list_anchors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
LABELS = {name: set(spec.labels) for spec in METRICS for name in spec.series}
_OF_PROMETHEUS = {"le", "job", "instance"}


PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
SHOWN: list[str] = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *SHOWN])
def test_an_expression_names_metrics_and_labels_that_exist(expression: str) -> None:
    named = re.findall(r"(headrace_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for name, matchers in named:
        assert name in LABELS
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers)) <= LABELS[name]
    known = set.union(*(LABELS[name] for name, _ in named)) | _OF_PROMETHEUS
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert set(re.split(r",\s*", group)) <= known
    for words in re.findall(r'phase=~"([^"]*)"', expression):
        for word in words.split("|"):
            assert any(re.fullmatch(word, phase.value) for phase in Phase)


def test_the_dashboard_is_what_its_code_makes() -> None:
    assert DASHBOARD.read_text() == build_dashboard()
    assert [number for number, count in Counter(panel["id"] for panel in PANELS).items() if count > 1] == []


def test_the_dashboard_shows_every_metric() -> None:
    assert [spec.name for spec in METRICS if spec.name not in " ".join(SHOWN)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower() and anchor in list_anchors(ROOT / page)
    text = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())
    cases = [each for case in text["tests"] for each in case["alert_rule_test"] if each["alertname"] == rule["alert"]]
    assert sorted(bool(case["exp_alerts"]) for case in cases) == [False, True]
