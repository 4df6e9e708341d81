"""Plans as files: ``plan -o`` writes what ``run`` needs to execute exactly this plan and to refuse any other."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orbatch.money import MOST_USD, USD_DECIMALS
from orbatch.plan.plan import Plan, PlanError, is_loopback

SUFFIX = ".json"
FORMAT: Final = "orbatch plan 1"


class PlanFile(BaseModel):
    """A plan as it was made. ``origin``: the API it was made for, ``simulator`` for the built-in one; ``only`` and
    ``budget_usd``: what the command line set, None where it did not."""

    # Strict, so that a number in quotes is an edit; and every field must be there, with no others.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["orbatch plan 1"]
    batch: str
    config: str
    config_sha256: str
    origin: str
    only: str | None
    # JSON has it as text, hence not strict.
    budget_usd: Annotated[Decimal, Field(ge=0, le=MOST_USD, decimal_places=USD_DECIMALS, strict=False)] | None
    catalog_digest: str
    catalog_read_at: str
    jobs_digest: str
    jobs_to_submit: int
    low_nusd: int
    high_nusd: int

    @classmethod
    def of(cls, plan: Plan, budget: Decimal | None, *, simulated: bool) -> PlanFile:
        """The plan as it is written; ``budget`` is the one of the command line."""
        total = plan.total
        return cls(
            format=FORMAT,
            batch=plan.config.name,
            config=str(plan.config.path.absolute()),
            config_sha256=plan.config.sha256,
            origin="simulator" if simulated else plan.batch.origin,
            only=plan.only,
            budget_usd=budget,
            catalog_digest=plan.catalogs.digest,
            catalog_read_at=plan.catalogs.captured_at.isoformat(),
            jobs_digest=plan.digest,
            jobs_to_submit=total.to_submit,
            low_nusd=total.low_nusd,
            high_nusd=total.high_nusd,
        )

    @property
    def text(self) -> str:
        """The content of its file."""
        return self.model_dump_json(indent=2) + "\n"


def check_destination(path: Path) -> None:
    """Raises PlanError when a plan must not be written to ``path``."""
    if path.suffix != SUFFIX:
        raise PlanError(f"{path}: the name of a plan must end with {SUFFIX}, which tells `run` that it is one.")
    try:
        if path.exists():
            read_plan_file(path)
    except PlanError as exc:
        raise PlanError(f"{path} exists and is not a plan, so it was not overwritten. Name another file.") from exc


def read_plan_file(path: Path) -> PlanFile | None:
    """The plan in this file, or None when it is no plan (a batch file, then). Raises PlanError when it is broken."""
    if path.suffix != SUFFIX:
        return None
    try:
        content = json.loads(path.read_text("utf-8"))  # before pydantic, to tell broken JSON from another file
    except OSError as exc:
        raise PlanError(f"The plan {path} cannot be read: {exc.strerror}.") from exc
    except (ValueError, RecursionError) as exc:
        raise PlanError(f"The plan {path} is not readable JSON: {exc}.") from exc
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PlanError(f"{path} is not a plan of this orbatch. Make one with `orbatch plan CONFIG -o {path.name}`.")
    try:
        return PlanFile.model_validate(content)
    except ValidationError as exc:
        raise PlanError(f"The plan {path} was edited or is incomplete. Make it again.") from exc


def check_against_file(plan: Plan, file: PlanFile, *, simulated: bool) -> None:
    """Raises PlanError when the plan made now differs from the one in the file, saying in what."""
    now = PlanFile.of(plan, file.budget_usd, simulated=simulated)
    # The built-in simulator has another port each time.
    if now.origin != file.origin and not (is_loopback(now.origin) and is_loopback(file.origin)):
        raise PlanError(f"The plan was made for {file.origin}, not {now.origin}. Nothing was submitted.")
    if file.jobs_digest != now.jobs_digest:  # an edit that changes no job and no price is no other plan
        causes = []
        if file.config_sha256 != now.config_sha256:
            causes.append("the batch file was edited")
        if file.catalog_digest != now.catalog_digest:
            causes.append("the catalog has other prices or models")
        raise PlanError(_not_the_plan(plan, causes or ["a prompt file or an input file has changed"]))
    # Fewer jobs or less money is no surprise: some were done in the meantime.
    if now.jobs_to_submit > file.jobs_to_submit or now.high_nusd > file.high_nusd:
        more = f"{now.jobs_to_submit} jobs would be submitted, {file.jobs_to_submit} were planned"
        raise PlanError(_not_the_plan(plan, [f"some jobs were set back to pending ({more})"]))


def _not_the_plan(plan: Plan, causes: list[str]) -> str:
    return (
        f"The jobs differ from the plan: {' and '.join(causes)}. Nothing was submitted; review `orbatch plan "
        f"{plan.config.path}` and make the plan again."
    )
