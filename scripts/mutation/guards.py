"""All guards that are dropped in turn."""

from __future__ import annotations

from typing import Final

from scripts.mutation.changing import CHANGING
from scripts.mutation.claiming import CLAIMING
from scripts.mutation.guard import Guard
from scripts.mutation.leasing import LEASING
from scripts.mutation.settling import SETTLING
from scripts.mutation.sweeping import SWEEPING

GUARDS: Final[tuple[Guard, ...]] = SETTLING + LEASING + SWEEPING + CLAIMING + CHANGING
