"""What a request will cost, by the price lines of its model. Pure, and Decimal throughout.

values     Estimate, Hints and OpenDimension: what goes in and comes out
skus       the names of the price lines -> what each one prices
geometry   resolution, size and aspect ratio -> pixels
shape      the parts of a request and a model that are billed, and what they leave open
choice     which price lines apply to one case
quantity   what a price line charges for the case
terms      products of quantity and rate, and how they read
charge     bounds, merged over cases and added up to an estimate
video      the estimate of a video request, put together from these
image      the estimate of an image request, by the price lines of endpoints
routing    the same for a model, by the endpoints that the request may be routed to
text       the estimate of a text request
unset      what a request leaves to chance, and the price range of it
words      the price list of a model in words
"""

from orbatch_provider.pricing.describe import (
    describe_image_prices,
    describe_prices,
    describe_text_extras,
    usd_per_million,
)
from orbatch_provider.pricing.estimate import Estimate, EstimateStatus, Hints, OpenDimension
from orbatch_provider.pricing.image import estimate_image, estimate_image_model
from orbatch_provider.pricing.text import estimate_text
from orbatch_provider.pricing.video import estimate, open_dimensions

__all__ = [
    "Estimate",
    "EstimateStatus",
    "Hints",
    "OpenDimension",
    "describe_image_prices",
    "describe_prices",
    "describe_text_extras",
    "estimate",
    "estimate_image",
    "estimate_image_model",
    "estimate_text",
    "open_dimensions",
    "usd_per_million",
]
