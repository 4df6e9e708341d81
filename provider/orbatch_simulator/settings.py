"""All settings of the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from orbatch_simulator.faults import STRICT, Fault


@dataclass(frozen=True, slots=True, config=STRICT)
class SimulatorSettings:
    """Settings of a simulator. Seconds are simulated unless stated otherwise; amounts are USD; None means no limit.

    Raises ValidationError, a ValueError, for unknown fields and values of the wrong type.
    """

    seed: int = 0  # of render times and of faults with a probability
    speed: Annotated[float, Field(gt=0)] = 1.0  # simulated seconds per real second

    render_median_s: float = 60.0  # for a clip of 5 s; longer clips take longer
    render_spread: float = 0.25  # sigma of the lognormal spread around the median; 0 makes all render times equal
    render_s: Mapping[str, float] = field(default_factory=dict)  # fixed render time, by model
    usage_lag_s: float = 0.0  # until a charge shows in GET /key
    generation_lag_s: float = 120.0  # until GET /generation knows a finished job

    api_keys: frozenset[str] | None = field(default=None, repr=False)  # None: any key that begins with sk-or-
    management_keys: frozenset[str] = field(default=frozenset(), repr=False)  # these may read GET /credits
    credit_usd: Decimal | None = None  # of the account; a job beyond it is refused with 402
    key_limit_usd: Decimal | None = None  # of each key; also 402
    budget_usd: Decimal | None = None  # of the workspace; a job beyond it is refused with 403
    submits_per_minute: int | None = None  # for each key; more are refused with 429
    max_body_bytes: int = 32 * 1024 * 1024
    refuse_audio_off: bool = False  # 400 also for generate_audio: false on a model without audio

    failures_report_usage: bool = False  # polls of failed jobs report their cost; GET /generation does so in any case
    source_seconds: Decimal = Decimal(5)  # of every input video or audio that is edited, upscaled or spoken
    source_width: int = 1280
    source_height: int = 720

    outputs: PositiveInt = 1  # per completed job
    ranges: bool = False  # True: Content-Length, ETag and Range on downloads; the live service has none of them
    clip_bytes: int | None = None  # serve one tiny clip, padded to this length, instead of rendering

    faults: tuple[Fault, ...] = ()
