"""Everything about the simulator that can be switched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from orbatch_simulator.faults import Fault


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Settings of one simulator. Seconds are simulated unless said otherwise; amounts are USD; None means no limit."""

    seed: int = 0  # of render times and of faults with a probability
    speed: float = 1.0  # simulated seconds per real second

    render_median_s: float = 60.0  # for a clip of 5 s; longer clips take longer
    render_spread: float = 0.25  # sigma of the lognormal spread around the median; 0 makes every render alike
    render_s: Mapping[str, float] = field(default_factory=dict)  # fixed render time, by model
    slots_per_model: int | None = None  # renders of one model at a time; the others queue as pending
    shows_in_progress: bool = True  # False: jobs jump from pending to their end, as many providers do
    submit_latency_s: float = 0.0
    usage_lag_s: float = 0.0  # until a charge shows in GET /key
    generation_lag_s: float = 120.0  # until GET /generation knows a finished job

    api_keys: frozenset[str] | None = field(default=None, repr=False)  # None: any key that begins with sk-or-
    management_keys: frozenset[str] = field(default=frozenset(), repr=False)  # these may read GET /credits
    credit_usd: Decimal | None = None  # of the account; a job beyond it is refused with 402
    key_limit_usd: Decimal | None = None  # of each key; likewise 402
    budget_usd: Decimal | None = None  # of the workspace; a job beyond it is refused with 403
    submits_per_minute: int | None = None  # for each key; more are refused with 429
    max_body_bytes: int = 32 * 1024 * 1024
    refuse_audio_off: bool = False  # 400 also for generate_audio: false on a model without sound

    charge_failures: bool = False  # failed, cancelled and expired jobs cost what a completed one does
    failures_report_usage: bool = False  # and say so when polled; GET /generation tells either way
    unknown_price_usd: Decimal = Decimal("0.10")  # for a model none of whose price lines is known: never free
    source_seconds: Decimal = Decimal(5)  # of every video or sound that is edited, upscaled or spoken
    source_width: int = 1280
    source_height: int = 720

    outputs: int = 1  # per completed job
    ranges: bool = False  # True: Content-Length, ETag and Range on downloads; the live service has none of them
    stored_copies: bool = False  # completed jobs carry `urls`, signed and usable without a key for an hour
    polling_paths: bool = False  # polling_url is a path instead of an absolute URL
    public_origin: str | None = (
        None  # the origin named in polling_url and unsigned_urls, when it is not the server's own
    )
    clip_bytes: int | None = None  # serve one tiny clip, padded to this length, instead of rendering

    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"speed must be above 0, not {self.speed}")
        if self.outputs < 1:
            raise ValueError(f"outputs must be at least 1, not {self.outputs}")

    def changed(self, data: object) -> SimulatorSettings:
        """A copy with the fields of a JSON object; amounts as strings or integers. Keys and faults cannot be set so.

        Raises ValueError with a sentence for an unknown field or a value of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise ValueError("settings must be a JSON object")
        unknown = sorted(set(data) - set(_PARSERS))
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; there are: {', '.join(sorted(_PARSERS))}")
        return dataclasses.replace(self, **{name: _PARSERS[name](name, value) for name, value in data.items()})


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return value


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(value)


def _amount(name: str, value: object) -> Decimal:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    raise ValueError(f"{name} must be an amount such as '1.50', not {value!r}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r}")
    return value


def _times(name: str, value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must map models to seconds, not {value!r}")
    return {str(model): _number(name, seconds) for model, seconds in value.items()}


def _parser(annotation: str) -> Any:
    kind = annotation.removesuffix(" | None")
    parse = {
        "bool": _flag, "int": _whole, "float": _number, "Decimal": _amount, "str": _text, "Mapping[str, float]": _times,
    }[kind]  # fmt: skip
    return parse if kind == annotation else lambda name, value: None if value is None else parse(name, value)


_NOT_AT_RUN_TIME = frozenset({"api_keys", "management_keys", "faults", "seed"})
_PARSERS = {
    item.name: _parser(str(item.type))
    for item in dataclasses.fields(SimulatorSettings)
    if item.name not in _NOT_AT_RUN_TIME
}
