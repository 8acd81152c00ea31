"""A visitor who floods the room for long costs a job no more memory than one who does so for seconds."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from tests.agent_runtime.test_floods import KINDS, Job, check_that_it_costs_no_memory, job

__all__ = ["job"]  # a fixture

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
KILOBYTES = 40_000
MAY_GROW = 15_000_000  # the process alone differs by some from flood to flood; what kept them would grow by all of them


@KINDS
async def test_a_long_flood_costs_the_job_no_memory(job: Job, settings: Settings, kind: str) -> None:
    await check_that_it_costs_no_memory(job, settings, kind, KILOBYTES, may_grow=MAY_GROW)
