"""Dify's built-in tools for dates and times. They need a clock and the tables of time zones, so a worker does them."""

from __future__ import annotations

from app.graph.tools.parameters import Tool, ToolParameter

_LOCAL = "such as 2024-1-1 0:0:0"


def _zone(name: str, default: str) -> ToolParameter:
    return ToolParameter(name, "string", "A time zone, such as Asia/Tokyo.", default=default, max_length=64)


def _tool(name: str, *parameters: ToolParameter) -> Tool:
    return Tool("time", name, "cpu", parameters)


TIME_TOOLS = (
    _tool(
        "current_time",
        ToolParameter("format", "string", "As strftime takes it.", default="%Y-%m-%d %H:%M:%S %Z", max_length=256),
        _zone("timezone", "UTC"),
    ),
    _tool(
        "localtime_to_timestamp",
        ToolParameter("localtime", "string", f"A local time, {_LOCAL}.", required=True, max_length=64),
        _zone("timezone", "Asia/Shanghai"),
    ),
    _tool(
        "timestamp_to_localtime",
        ToolParameter("timestamp", "integer", "Seconds since 1970.", required=True),
        _zone("timezone", "Asia/Shanghai"),
    ),
    _tool(
        "timezone_conversion",
        ToolParameter("current_time", "string", f"A local time, {_LOCAL}.", required=True, max_length=64),
        _zone("current_timezone", "Asia/Shanghai"),
        _zone("target_timezone", "Asia/Tokyo"),
    ),
    _tool(
        "weekday",
        ToolParameter("year", "integer", "The year.", required=True, minimum=1, maximum=9999),
        ToolParameter("month", "integer", "The month.", required=True, minimum=1, maximum=12),
        ToolParameter("day", "integer", "The day.", required=True, minimum=1, maximum=31),
    ),
)
