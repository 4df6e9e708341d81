"""One blocking call, for scripts and notebooks' first lines; everything else is async."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orbatch_provider.client import POLL_INTERVAL_S, WAIT_TIMEOUT_S, OpenRouterProvider
from orbatch_provider.http.credentials import ApiKey
from orbatch_provider.responses import MultimodalResponse


def generate_video(
    prompt: str | None,
    model: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    image_url: str | None = None,
    duration: int | None = None,
    resolution: str | None = None,
    aspect_ratio: str | None = None,
    generate_audio: bool | None = None,
    seed: int | None = None,
    frame_images: Sequence[Mapping[str, Any]] | None = None,
    input_references: Sequence[Mapping[str, Any]] | None = None,
    poll_interval: float = POLL_INTERVAL_S,
    timeout: float = WAIT_TIMEOUT_S,
    directory: str | Path | None = None,
    **kwargs: Any,
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_video`` in one call, with the same arguments and errors.

    Raises RuntimeError where an event loop runs already: await the provider's method there.
    """
    key = ApiKey.read(api_key)
    api_key = None  # no frame that an error passes may hold the text
    return _blocking(
        "generate_video",
        key,
        base_url,
        lambda provider: provider.generate_video(
            prompt,
            model,
            image_url=image_url,
            duration=duration,
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            generate_audio=generate_audio,
            seed=seed,
            frame_images=frame_images,
            input_references=input_references,
            poll_interval=poll_interval,
            timeout=timeout,
            directory=directory,
            **kwargs,
        ),
    )


def generate_image(
    prompt: str,
    model: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    n: int | None = None,
    size: str | None = None,
    resolution: str | None = None,
    aspect_ratio: str | None = None,
    quality: str | None = None,
    output_format: str | None = None,
    background: str | None = None,
    seed: int | None = None,
    input_references: Sequence[Mapping[str, Any]] | None = None,
    directory: str | Path | None = None,
    **kwargs: Any,
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_image`` in one call, with the same arguments and errors.

    Raises RuntimeError where an event loop runs already: await the provider's method there.
    """
    key = ApiKey.read(api_key)
    api_key = None  # no frame that an error passes may hold the text
    return _blocking(
        "generate_image",
        key,
        base_url,
        lambda provider: provider.generate_image(
            prompt,
            model,
            n=n,
            size=size,
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            quality=quality,
            output_format=output_format,
            background=background,
            seed=seed,
            input_references=input_references,
            directory=directory,
            **kwargs,
        ),
    )


def generate_text(
    prompt: str | None,
    model: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    response_format: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> MultimodalResponse:
    """``OpenRouterProvider.generate_text`` in one call, with the same arguments and errors.

    Raises RuntimeError where an event loop runs already: await the provider's method there.
    """
    key = ApiKey.read(api_key)
    api_key = None  # no frame that an error passes may hold the text
    return _blocking(
        "generate_text",
        key,
        base_url,
        lambda provider: provider.generate_text(
            prompt,
            model,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            response_format=response_format,
            **kwargs,
        ),
    )


def _blocking(
    name: str, key: ApiKey, base_url: str | None, call: Callable[[OpenRouterProvider], Awaitable[MultimodalResponse]]
) -> MultimodalResponse:
    if _in_event_loop():
        raise RuntimeError(
            f"{name}() blocks and an event loop is running here; use "
            f"`async with OpenRouterProvider() as provider: await provider.{name}(...)`."
        )

    async def generate() -> MultimodalResponse:
        async with OpenRouterProvider(key, base_url=base_url) as provider:
            return await call(provider)

    return asyncio.run(generate())


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
