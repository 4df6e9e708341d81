"""All settings of the simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass

from orbatch_simulator.faults import STRICT, Fault, first_problem

_FIXED = frozenset({"api_keys", "management_keys", "faults", "seed"})  # only when the simulator is made


def _to_decimal(value: object) -> object:
    # No floats: 0.1 as a double is not ten cents.
    if isinstance(value, Decimal) or (isinstance(value, int | str) and not isinstance(value, bool)):
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    raise ValueError(f"must be an amount such as '1.50', not {value!r}")


Amount = Annotated[Decimal, BeforeValidator(_to_decimal)]  # USD, except for source_seconds


@dataclass(frozen=True, slots=True, config=STRICT)
class SimulatorSettings:
    """Settings of a simulator. Seconds are simulated unless stated otherwise; amounts are USD; None means no limit."""

    seed: int = 0  # of render times and of faults with a probability
    speed: Annotated[float, Field(gt=0)] = 1.0  # simulated seconds per real second

    render_median_s: float = 60.0  # for a clip of 5 s; longer clips take longer
    render_spread: float = 0.25  # sigma of the lognormal spread around the median; 0 makes all render times equal
    render_s: Mapping[str, float] = field(default_factory=dict)  # fixed render time, by model
    slots_per_model: int | None = None  # renders of one model at a time; the others queue as pending
    shows_in_progress: bool = True  # False: jobs jump from pending to their end, as many providers do
    submit_latency_s: float = 0.0
    usage_lag_s: float = 0.0  # until a charge shows in GET /key
    generation_lag_s: float = 120.0  # until GET /generation knows a finished job

    api_keys: frozenset[str] | None = field(default=None, repr=False)  # None: any key that begins with sk-or-
    management_keys: frozenset[str] = field(default=frozenset(), repr=False)  # these may read GET /credits
    credit_usd: Amount | None = None  # of the account; a job beyond it is refused with 402
    key_limit_usd: Amount | None = None  # of each key; also 402
    budget_usd: Amount | None = None  # of the workspace; a job beyond it is refused with 403
    submits_per_minute: int | None = None  # for each key; more are refused with 429
    max_body_bytes: int = 32 * 1024 * 1024
    refuse_audio_off: bool = False  # 400 also for generate_audio: false on a model without audio

    charge_failures: bool = False  # failed, cancelled and expired jobs cost as much as completed ones
    failures_report_usage: bool = False  # and their polls report it; GET /generation does so in any case
    unknown_price_usd: Amount = Decimal("0.10")  # for a model none of whose price lines is known: never free
    source_seconds: Amount = Decimal(5)  # of every input video or audio that is edited, upscaled or spoken
    source_width: int = 1280
    source_height: int = 720

    outputs: PositiveInt = 1  # per completed job
    ranges: bool = False  # True: Content-Length, ETag and Range on downloads; the live service has none of them
    stored_copies: bool = False  # completed jobs carry `urls`, signed and usable without a key for an hour
    polling_paths: bool = False  # polling_url is a path instead of an absolute URL
    public_origin: str | None = None  # named in polling_url and unsigned_urls; None: the server's own origin
    clip_bytes: int | None = None  # serve one tiny clip, padded to this length, instead of rendering

    faults: tuple[Fault, ...] = ()

    def changed(self, data: object) -> SimulatorSettings:
        """A copy with the fields of a JSON object; amounts as strings or integers. Keys and faults cannot be set.

        Raises ValueError with a sentence for an unknown field or a value of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise ValueError("settings must be a JSON object")
        names = [item.name for item in dataclasses.fields(self) if item.name not in _FIXED]
        unknown = sorted(set(data) - set(names))
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; known settings: {', '.join(sorted(names))}")
        try:
            return dataclasses.replace(self, **data)
        except ValidationError as exc:
            raise ValueError(first_problem(exc, names)) from exc
