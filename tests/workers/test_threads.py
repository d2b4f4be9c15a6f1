"""The engine takes as many threads as it has cores, whatever the machine has."""

from __future__ import annotations

import os

import pytest

from workers.diffusion.threads import thread_count, usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 16 cores: `machine({file: text})` lays out its control groups, and returns its root."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)

    def lay_out(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return lay_out


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/box/inner", "sys/fs/cgroup/box/cpu.max": "350000 100000"}, 4),
        ({"proc/self/cgroup": "0::/elsewhere", "sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "3200000 100000"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "what"}, 16),
        (
            {
                "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "600000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            },
            6,
        ),
    ],
)
def test_a_container_may_use_less_than_it_sees(machine, files, cores):
    assert usable_cores(machine(files)) == cores


def test_a_setting_comes_first_then_openmps_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count(5) == 5
    assert thread_count(0) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count(0) == usable_cores()
