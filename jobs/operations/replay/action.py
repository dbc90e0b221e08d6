"""The steps of a replay, without their code: the composition root lists them, and is imported each minute."""

from typing import Literal

ReplayAction = Literal["rehearse", "compare", "swap", "undo", "abandon"]
