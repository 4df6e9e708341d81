"""An async OpenRouter SDK for paid videos, images and texts; usable without the batch runner.

Names are loaded on first use, so that importing the package costs no HTTP stack.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbatch_provider.catalog import (
        AnyModel,
        Catalog,
        ImageModel,
        PriceChange,
        Problem,
        TextModel,
        VideoModel,
        check_image,
        check_text,
        check_video,
        image_snapshot,
        price_changes,
        snapshot,
    )
    from orbatch_provider.client import OpenRouterProvider, generate_image, generate_text, generate_video
    from orbatch_provider.download import PartFile, run_in_disk_pool
    from orbatch_provider.errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        GoneError,
        NotFoundError,
        NotSentError,
        OpenRouterError,
        OutcomeUnknownError,
        PaymentRequiredError,
        PermissionDeniedError,
        redact,
    )
    from orbatch_provider.inputs import (
        IMAGE_FIELDS,
        InputError,
        check_sizes,
        check_urls,
        hashed,
        https_url,
        image_notes,
        is_local,
        materialise,
        remote_inputs,
        resolve_image,
        url_of,
    )
    from orbatch_provider.instant import ImagesResult, TextResult
    from orbatch_provider.media import SNIFF_BYTES, extension, video_type
    from orbatch_provider.pricing import (
        Estimate,
        UnsetField,
        estimate_image,
        estimate_text,
        estimate_video,
        unset_fields,
    )
    from orbatch_provider.requests import ImageRequest, TextRequest, VideoRequest, named_fields, strip_prefix
    from orbatch_provider.responses import (
        COMPLETED,
        ENDED_WITHOUT_RESULT,
        FileOutput,
        Generation,
        GenerationRow,
        GenerationRows,
        KeyInfo,
        MultimodalResponse,
        UnusableResultError,
        Usage,
        VideoJob,
    )

__all__ = [
    "COMPLETED",
    "ENDED_WITHOUT_RESULT",
    "IMAGE_FIELDS",
    "SNIFF_BYTES",
    "APIError",
    "AnyModel",
    "AuthenticationError",
    "BadRequestError",
    "Catalog",
    "ConfigurationError",
    "Estimate",
    "FileOutput",
    "Generation",
    "GenerationRow",
    "GenerationRows",
    "GoneError",
    "ImageModel",
    "ImageRequest",
    "ImagesResult",
    "InputError",
    "KeyInfo",
    "MultimodalResponse",
    "NotFoundError",
    "NotSentError",
    "OpenRouterError",
    "OpenRouterProvider",
    "OutcomeUnknownError",
    "PartFile",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PriceChange",
    "Problem",
    "TextModel",
    "TextRequest",
    "TextResult",
    "UnsetField",
    "UnusableResultError",
    "Usage",
    "VideoJob",
    "VideoModel",
    "VideoRequest",
    "check_image",
    "check_sizes",
    "check_text",
    "check_urls",
    "check_video",
    "estimate_image",
    "estimate_text",
    "estimate_video",
    "extension",
    "generate_image",
    "generate_text",
    "generate_video",
    "hashed",
    "https_url",
    "image_notes",
    "image_snapshot",
    "is_local",
    "materialise",
    "named_fields",
    "price_changes",
    "redact",
    "remote_inputs",
    "resolve_image",
    "run_in_disk_pool",
    "snapshot",
    "strip_prefix",
    "unset_fields",
    "url_of",
    "video_type",
]

# Where each name of __all__ is found.
_NAMES = {
    "catalog": (
        "AnyModel Catalog ImageModel PriceChange Problem TextModel VideoModel check_image "
        "check_text check_video image_snapshot price_changes snapshot"
    ),
    "client": "OpenRouterProvider generate_image generate_text generate_video",
    "download": "PartFile run_in_disk_pool",
    "errors": (
        "APIError AuthenticationError BadRequestError ConfigurationError GoneError NotFoundError NotSentError "
        "OpenRouterError OutcomeUnknownError PaymentRequiredError PermissionDeniedError redact"
    ),
    "inputs": (
        "IMAGE_FIELDS InputError check_sizes check_urls hashed https_url image_notes is_local materialise "
        "remote_inputs resolve_image url_of"
    ),
    "instant": "ImagesResult TextResult",
    "media": "SNIFF_BYTES extension video_type",
    "pricing": "Estimate UnsetField estimate_image estimate_text estimate_video unset_fields",
    "requests": "ImageRequest TextRequest VideoRequest named_fields strip_prefix",
    "responses": (
        "COMPLETED ENDED_WITHOUT_RESULT FileOutput Generation GenerationRow GenerationRows KeyInfo MultimodalResponse "
        "UnusableResultError Usage VideoJob"
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # or every misspelled name would pass the type checker

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
