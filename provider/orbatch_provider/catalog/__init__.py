"""Video models and what they can do. Unknown fields and new models never break it.

models     VideoModel: one record of the catalog
readings   Catalog: all records of one reading, and the price changes between two
checks     check: what a model does not support in a request
"""

from orbatch_provider.catalog.checks import Problem, check
from orbatch_provider.catalog.models import VideoModel
from orbatch_provider.catalog.readings import Catalog, PriceChange, price_changes, snapshot

__all__ = ["Catalog", "PriceChange", "Problem", "VideoModel", "check", "price_changes", "snapshot"]
