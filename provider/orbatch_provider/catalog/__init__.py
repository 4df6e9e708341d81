"""Models and what they can do. Unknown fields and new models never break it.

models       VideoModel: one record of the video catalog
imagemodels  ImageModel and ImageEndpoint: what each endpoint can do and charges, and the routing between them
textmodels   TextModel: one record of the text catalog
readings     Catalog: all video models of one reading, and the price changes between two
listings     ImageCatalog and TextCatalog, likewise
checks       check: what a video model does not support in a request
imagechecks  check_image    textchecks  check_text
nearest      the allowed value that a refused one most likely means
"""

from orbatch_provider.catalog.catalog import (
    Catalog,
    ImageCatalog,
    PriceChange,
    TextCatalog,
    image_snapshot,
    price_changes,
    snapshot,
)
from orbatch_provider.catalog.check import Problem, check, check_image, check_text
from orbatch_provider.catalog.models import Capability, ImageEndpoint, ImageModel, TextModel, VideoModel

__all__ = [
    "Capability",
    "Catalog",
    "ImageCatalog",
    "ImageEndpoint",
    "ImageModel",
    "PriceChange",
    "Problem",
    "TextCatalog",
    "TextModel",
    "VideoModel",
    "check",
    "check_image",
    "check_text",
    "image_snapshot",
    "price_changes",
    "snapshot",
]
