"""Models of every kind and what they support. Unknown fields and new models never break the reading of a catalog.

models   VideoModel, ImageModel with its endpoints, TextModel: one record of a catalog each
catalog  Catalog: all models of one kind as read at one time; price changes between two readings
check    what a model does not support in a request
"""

from orbatch_provider.catalog.catalog import (
    Catalog,
    PriceChange,
    image_snapshot,
    output_tokens,
    price_changes,
    snapshot,
)
from orbatch_provider.catalog.check import Problem, check_image, check_text, check_video
from orbatch_provider.catalog.models import AnyModel, Capability, ImageEndpoint, ImageModel, TextModel, VideoModel

__all__ = [
    "AnyModel",
    "Capability",
    "Catalog",
    "ImageEndpoint",
    "ImageModel",
    "PriceChange",
    "Problem",
    "TextModel",
    "VideoModel",
    "check_image",
    "check_text",
    "check_video",
    "image_snapshot",
    "output_tokens",
    "price_changes",
    "snapshot",
]
