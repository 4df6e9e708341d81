"""``models --kind text``: what text models can read and write, and what their tokens cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from orbatch.cli.session import Session
from orbatch.cli.tables import table
from orbatch_provider.catalog import TextModel
from orbatch_provider.pricing import describe_text_extras, usd_per_million


def show_text_models(session: Session, models: Sequence[TextModel]) -> None:
    """The cheapest completion first, unpriced models last."""
    ordered = sorted(models, key=_order)
    if session.json:
        session.data(
            [
                {
                    "model": model.id,
                    "context_tokens": model.context_length,
                    "max_completion_tokens": model.max_completion_tokens,
                    "prompt_usd_per_million": _number(usd_per_million(model, "prompt")),
                    "completion_usd_per_million": _number(usd_per_million(model, "completion")),
                    "extras": describe_text_extras(model),
                    "takes": model.capabilities,
                }
                for model in ordered
            ]
        )
        return
    rows = [
        [
            model.id,
            _tokens(model.context_length),
            _tokens(model.max_completion_tokens),
            _usd(usd_per_million(model, "prompt")),
            _usd(usd_per_million(model, "completion")),
            "; ".join(describe_text_extras(model)) or "-",
        ]
        for model in ordered
    ]
    titles = ["model", "context", "answer", "USD per million prompt", "and completion tokens", "also"]
    session.print(table(titles, rows, numbers=[1, 2, 3, 4]))


def _order(model: TextModel) -> tuple[bool, Decimal, Decimal, str]:
    prompt, completion = (usd_per_million(model, line) for line in ("prompt", "completion"))
    return (prompt is None or completion is None, completion or Decimal(0), prompt or Decimal(0), model.id)


def _tokens(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _usd(value: Decimal | None) -> str:
    return "?" if value is None else f"{value.normalize():f}"


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
