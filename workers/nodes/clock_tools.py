"""Dify's built-in tools for dates and times: each gives the text that its node gives.

Where Dify lets a node succeed with an error as its text, the node fails here.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app import clock
from app.errors import NodeFailed

_FORMAT = "%Y-%m-%d %H:%M:%S"


def _current_time(inputs: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(clock.time(), _zone(inputs["timezone"])).strftime(inputs["format"])


def _localtime_to_timestamp(inputs: Mapping[str, Any]) -> str:
    return str(int(_local(inputs["localtime"], inputs["timezone"]).timestamp()))


def _timestamp_to_localtime(inputs: Mapping[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(inputs["timestamp"], _zone(inputs["timezone"])).strftime(_FORMAT)
    except (ValueError, OverflowError, OSError):
        raise _failure(f"Invalid timestamp: {inputs['timestamp']}") from None


def _timezone_conversion(inputs: Mapping[str, Any]) -> str:
    there = _local(inputs["current_time"], inputs["current_timezone"])
    try:
        return there.astimezone(_zone(inputs["target_timezone"])).strftime(_FORMAT)
    except OverflowError:
        raise _failure(f"Invalid localtime: {inputs['current_time']}") from None


def _weekday(inputs: Mapping[str, Any]) -> str:
    try:
        day = datetime(inputs["year"], inputs["month"], inputs["day"])
    except ValueError:
        raise _failure("Invalid date: Year {year}, Month {month}, Day {day}.".format(**inputs)) from None
    name = calendar.day_name[day.weekday()]
    return f"{calendar.month_name[day.month]} {day.day}, {day.year} is {name}."


CLOCK_TOOLS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "current_time": _current_time,
    "localtime_to_timestamp": _localtime_to_timestamp,
    "timestamp_to_localtime": _timestamp_to_localtime,
    "timezone_conversion": _timezone_conversion,
    "weekday": _weekday,
}
"""A tool's name → what it answers to its checked inputs. Raises NodeFailed for a time or a zone that is none."""


def _local(written: str, zone: str) -> datetime:
    try:
        return datetime.strptime(written.strip(), _FORMAT).replace(tzinfo=_zone(zone))
    except ValueError as error:
        raise _failure(str(error)) from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (
        ValueError,
        OSError,
        KeyError,
    ):  # ZoneInfoNotFoundError is a KeyError; a name may be a path, which it refuses
        raise _failure(f"Invalid timezone: {name!r}") from None


def _failure(text: str) -> NodeFailed:
    return NodeFailed(text, error_type="ToolInvokeError")
