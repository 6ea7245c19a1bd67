"""Devices that several tests order about."""

from __future__ import annotations

from llmtwin.records import Device, Property

HEATING = Device(
    id="climate.hall",
    name="Hall heating",
    domain="climate",
    properties=(
        Property(name="mode", path="climate.hall/mode", writable=True, options=("cool", "heat", "off")),
        Property(
            name="target temperature",
            path="climate.hall/target temperature",
            unit="°C",
            writable=True,
            minimum=7,
            maximum=35,
        ),
    ),
)
