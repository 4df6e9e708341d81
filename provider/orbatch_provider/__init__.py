"""An async OpenRouter SDK for paid media jobs; usable without the batch runner.

Names are loaded on first use, so that importing the package costs no HTTP stack.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbatch_provider.blocking import generate_video
    from orbatch_provider.catalog import Catalog, Problem, VideoModel
    from orbatch_provider.client import OpenRouterProvider
    from orbatch_provider.errors import OpenRouterError
    from orbatch_provider.pricing import Estimate, estimate
    from orbatch_provider.requests import VideoRequest
    from orbatch_provider.responses import FileOutput, MultimodalResponse, Usage, VideoJob

_HOME = {
    "Catalog": "catalog",
    "Estimate": "pricing",
    "FileOutput": "responses",
    "MultimodalResponse": "responses",
    "OpenRouterError": "errors",
    "OpenRouterProvider": "client",
    "Problem": "catalog",
    "Usage": "responses",
    "VideoJob": "responses",
    "VideoModel": "catalog",
    "VideoRequest": "requests",
    "estimate": "pricing",
    "generate_video": "blocking",
}

__all__ = [
    "Catalog",
    "Estimate",
    "FileOutput",
    "MultimodalResponse",
    "OpenRouterError",
    "OpenRouterProvider",
    "Problem",
    "Usage",
    "VideoJob",
    "VideoModel",
    "VideoRequest",
    "estimate",
    "generate_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
