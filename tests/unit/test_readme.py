"""The README's table of settings is the code's."""

from __future__ import annotations

from pathlib import Path

from resources.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_setting_is_documented_with_its_meaning() -> None:
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"HEADRACE_{name.upper()}"
        assert any(
            line.startswith(f"| `{variable}` |") and line.endswith(f"| {field.description} |")
            for line in README.splitlines()
        ), f"{variable} is missing in the README, or its meaning differs"
