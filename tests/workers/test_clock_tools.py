import re

import pytest

from app.errors import NodeFailed
from workers.nodes.clock_tools import CLOCK_TOOLS

UTC = {"timezone": "UTC"}


@pytest.mark.parametrize(
    ("tool", "inputs", "text"),
    [
        ("localtime_to_timestamp", {"localtime": "2024-1-1 8:0:0", "timezone": "Asia/Shanghai"}, "1704067200"),
        ("timestamp_to_localtime", {"timestamp": 1704067200, "timezone": "America/New_York"}, "2023-12-31 19:00:00"),
        (
            "timezone_conversion",
            {"current_time": "2024-7-1 9:30:00", "current_timezone": "Asia/Shanghai", "target_timezone": "Asia/Tokyo"},
            "2024-07-01 10:30:00",
        ),
        ("weekday", {"year": 2024, "month": 2, "day": 29}, "February 29, 2024 is Thursday."),
        ("current_time", {"format": "always the same", **UTC}, "always the same"),
    ],
)
def test_dates_and_times_are_told_as_dify_tells_them(tool, inputs, text):
    assert CLOCK_TOOLS[tool](inputs) == text


def test_the_current_time_names_its_zone():
    told = CLOCK_TOOLS["current_time"]({"format": "%Y-%m-%d %H:%M:%S %Z", **UTC})
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", told)


@pytest.mark.parametrize("zone", ["Nowhere/Here", "../../etc/passwd", "/etc/passwd", "", "a\0b"])
def test_a_zone_that_is_none_fails_and_opens_no_file(zone):
    with pytest.raises(NodeFailed, match=r"^Invalid timezone: "):
        CLOCK_TOOLS["current_time"]({"format": "%Y", "timezone": zone})


@pytest.mark.parametrize(
    ("tool", "inputs", "text"),
    [
        ("weekday", {"year": 2023, "month": 2, "day": 29}, "Invalid date: Year 2023, Month 2, Day 29."),
        ("timestamp_to_localtime", {"timestamp": 10**30, **UTC}, "Invalid timestamp: "),
        ("localtime_to_timestamp", {"localtime": "soon", **UTC}, "time data 'soon' does not match"),
    ],
)
def test_a_time_that_is_none_fails(tool, inputs, text):
    with pytest.raises(NodeFailed, match=f"^{re.escape(text)}"):
        CLOCK_TOOLS[tool](inputs)
