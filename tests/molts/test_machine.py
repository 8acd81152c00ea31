"""What a container may use, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from molts import machine


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A root folder with a control group that may use one and a half processors."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:cpu:/\n0::/box\n")
    (tmp_path / "sys/fs/cgroup/box").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/box/cpu.max").write_text("150000 100000\n")
    (tmp_path / "sys/fs/cgroup/box/cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
    return tmp_path


def test_a_limit_counts_and_not_what_the_machine_has(container: Path) -> None:
    assert machine.core_limit(container) == 1.5
    assert machine.usable_cores(container) == 1
    assert machine.seconds_used(container) == 2.5


def test_a_limit_below_one_processor_leaves_one(container: Path) -> None:
    (container / "sys/fs/cgroup/box/cpu.max").write_text("20000 100000\n")

    assert machine.usable_cores(container) == 1


@pytest.mark.parametrize("text", ["max 100000\n", "", "nonsense"])
def test_without_a_limit_the_machine_counts(container: Path, text: str) -> None:
    (container / "sys/fs/cgroup/box/cpu.max").write_text(text)

    assert machine.core_limit(container) is None
    assert machine.usable_cores(container) == machine.usable_cores(Path("/nowhere")) >= 1


def test_where_nothing_is_counted_nothing_is_said() -> None:
    assert machine.seconds_used(Path("/nowhere")) is None
    assert machine.core_limit(Path("/nowhere")) is None
