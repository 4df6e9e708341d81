"""One blocking call each, for scripts; everything else is async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, Unpack

from orbatch_provider.client import OpenRouterProvider
from orbatch_provider.http.credentials import ApiKey
from orbatch_provider.requests import ImageOptions, TextOptions, VideoOptions
from orbatch_provider.responses import MultimodalResponse

P = ParamSpec("P")
Key = str | ApiKey | None


def _blocking(call: Callable[P, Coroutine[Any, Any, MultimodalResponse]]) -> Callable[P, MultimodalResponse]:
    """``call`` in an event loop of its own. Raises RuntimeError where one is running: await the method there."""

    @wraps(call)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> MultimodalResponse:
        # The text of the key must not be in a frame that an error passes; ApiKey hides it.
        kwargs["api_key"] = ApiKey.read(kwargs.pop("api_key", None))  # type: ignore[arg-type]  # Key, as the signature says
        running = None
        with suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is not None:
            raise RuntimeError(
                f"{call.__name__}() blocks, and an event loop is running here. Use "
                f"`async with OpenRouterProvider() as provider: await provider.{call.__name__}(...)`."
            )
        return asyncio.run(call(*args, **kwargs))  # a provider of its own, so that nothing outlives the loop

    return blocking


@_blocking
async def generate_video(
    prompt: str | None,
    model: str,
    image_url: str | None = None,
    *,
    api_key: Key = None,
    base_url: str | None = None,
    **options: Unpack[VideoOptions],
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_video`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_video(prompt, model, image_url, **options)


@_blocking
async def generate_image(
    prompt: str, model: str, *, api_key: Key = None, base_url: str | None = None, **options: Unpack[ImageOptions]
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_image`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_image(prompt, model, **options)


@_blocking
async def generate_text(
    prompt: str | None, model: str, *, api_key: Key = None, base_url: str | None = None, **options: Unpack[TextOptions]
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_text`` as one blocking call, with the same arguments and errors."""
    async with OpenRouterProvider(api_key, base_url=base_url) as provider:
        return await provider.generate_text(prompt, model, **options)
