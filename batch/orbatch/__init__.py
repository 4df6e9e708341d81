"""orbatch: batches of generation jobs on OpenRouter, with a ledger. The provider's names are re-exported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orbatch_provider

if TYPE_CHECKING:
    from orbatch.api import BatchResult, plan_batch, run_batch
    from orbatch_provider import MultimodalResponse, OpenRouterProvider, generate_image, generate_text, generate_video

_BATCHES = ("BatchResult", "plan_batch", "run_batch")
__all__ = [
    "BatchResult",
    "MultimodalResponse",
    "OpenRouterProvider",
    "generate_image",
    "generate_text",
    "generate_video",
    "plan_batch",
    "run_batch",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # not above: it takes longer than most of the rest

        return version("orbatch")
    if name in _BATCHES:
        from orbatch import api  # not above: the SDK alone needs no batches

        return getattr(api, name)
    if name in __all__:
        return getattr(orbatch_provider, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
