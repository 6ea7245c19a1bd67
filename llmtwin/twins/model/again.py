"""What of a request can be asked once more so that nothing but an answer comes of it. It asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a server would execute itself, or keep, or stream.
_LEFT_OUT = frozenset(
    {"stream", "stream_options", "background", "store", "web_search_options", "tools", "tool_choice"}
)


def harmless(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request, to be answered at once and not kept, with no tool that a server executes.

    Functions may be offered, since whoever calls the model executes them, and here nobody does.
    """
    asked = {name: value for name, value in request.items() if name not in _LEFT_OUT}
    if _has_functions_alone(request):
        asked |= {name: request[name] for name in ("tools", "tool_choice") if name in request}
    if "input" in request:
        asked["store"] = False  # responses are kept unless one says so
    return asked


def why_not(request: Mapping[str, Any]) -> str | None:
    """Why a request cannot be asked again without more than an answer coming of it; None where it can."""
    if request.get("previous_response_id") or request.get("conversation"):
        return "it goes on from what a server keeps, and is not asked again"
    if request.get("web_search_options") is not None or not _has_functions_alone(request):
        return "a server would execute its tools once more, and it is not asked again"
    return None


def _has_functions_alone(request: Mapping[str, Any]) -> bool:
    tools = request.get("tools") or []
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and tool.get("type") == "function" for tool in tools
    )
