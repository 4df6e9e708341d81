"""An async OpenRouter SDK for paid videos, images and texts; usable without the batch runner.

Names are loaded on first use, so that importing the package costs no HTTP stack.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbatch_provider.catalog import Catalog, ImageModel, Problem, TextModel, VideoModel
    from orbatch_provider.client import OpenRouterProvider
    from orbatch_provider.errors import OpenRouterError
    from orbatch_provider.images import ImagesResult
    from orbatch_provider.pricing import Estimate, estimate_image, estimate_text, estimate_video
    from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest
    from orbatch_provider.responses import FileOutput, MultimodalResponse, Usage, VideoJob
    from orbatch_provider.sync import generate_image, generate_text, generate_video
    from orbatch_provider.texts import TextResult

# Where each name of __all__ is found.
_HOME = {
    "ImagesResult": "images",
    "OpenRouterError": "errors",
    "OpenRouterProvider": "client",
    "TextResult": "texts",
    **dict.fromkeys(("Catalog", "ImageModel", "Problem", "TextModel", "VideoModel"), "catalog"),
    **dict.fromkeys(("Estimate", "estimate_image", "estimate_text", "estimate_video"), "pricing"),
    **dict.fromkeys(("ImageRequest", "TextRequest", "VideoRequest"), "requests"),
    **dict.fromkeys(("FileOutput", "MultimodalResponse", "Usage", "VideoJob"), "responses"),
    **dict.fromkeys(("generate_image", "generate_text", "generate_video"), "sync"),
}

__all__ = [
    "Catalog",
    "Estimate",
    "FileOutput",
    "ImageModel",
    "ImageRequest",
    "ImagesResult",
    "MultimodalResponse",
    "OpenRouterError",
    "OpenRouterProvider",
    "Problem",
    "TextModel",
    "TextRequest",
    "TextResult",
    "Usage",
    "VideoJob",
    "VideoModel",
    "VideoRequest",
    "estimate_image",
    "estimate_text",
    "estimate_video",
    "generate_image",
    "generate_text",
    "generate_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
