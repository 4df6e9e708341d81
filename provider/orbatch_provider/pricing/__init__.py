"""What a request will cost, computed from the price lines of its model. Pure functions over Decimal, in USD.

The rules come from OpenRouter's price list, whose line names are documented nowhere, and from charges that were seen;
docs/pricing.md says which is which, and the docstrings here name its sections.
"""

from orbatch_provider.pricing.describe import (
    describe_image_prices,
    describe_text_extras,
    describe_video_prices,
    usd_per_million,
)
from orbatch_provider.pricing.estimate import Estimate, Hints, UnsetField
from orbatch_provider.pricing.image import estimate_image, estimate_image_body
from orbatch_provider.pricing.text import estimate_text
from orbatch_provider.pricing.video import estimate_video, unset_fields

__all__ = [
    "Estimate",
    "Hints",
    "UnsetField",
    "describe_image_prices",
    "describe_text_extras",
    "describe_video_prices",
    "estimate_image",
    "estimate_image_body",
    "estimate_text",
    "estimate_video",
    "unset_fields",
    "usd_per_million",
]
