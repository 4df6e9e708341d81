"""What a person does with a batch in the browser: look, filter, rate, pick, compare, vote blind, watch, export."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from bench.harness import page_address
from orbatch_simulator import Fault
from tests.conftest import Open
from tests.desk import HORSE, LITE, PATIENCE_S, Desk, Started

PROMPTS = [
    {"id": "dawn", "prompt": "a harbour at dawn"},
    {"id": "market", "prompt": "a {{ weather }} market", "vars": {"weather": ["rainy", "sunny"]}},
    {"id": "hostile", "prompt": "<img src=x onerror=alert(1)> </script> \u202e"},
]
TEXT = {"model": "openai/gpt-4o-mini", "kind": "text", "max_tokens": 60}
Problems = list[str]


def run(desk: Desk, path: Path, *more: object, code: int = 0) -> None:
    """In a process of its own: the browser's driver has the event loop of this one."""
    desk.orbatch("run", path, "--yes", "--speed", desk.speed, *more, code=code)


@pytest.fixture
def ran(open_desk: Open) -> Desk:
    """Seven of eight jobs are done."""
    desk = open_desk()
    desk.simulator.set_faults(Fault("job", "failed", prompt_contains="dawn", model=HORSE, message="no boats today"))
    run(desk, desk.write(models=[LITE, HORSE], prompts=PROMPTS), code=3)
    return desk


@contextmanager
def served(desk: Desk, *more: object) -> Iterator[str]:
    """The address of the page while it is served."""
    with desk.started("view", "films", "--no-browser", "--json", *more) as view:
        yield _address(view)


def _address(view: Started) -> str:
    assert view.process.stdout is not None
    return page_address(view.process.stdout)


@contextmanager
def opened(browser: Browser, url: str, **context: Any) -> Iterator[tuple[Page, Problems]]:
    """The page, and what the browser complains about."""
    with browser.new_context(viewport={"width": 1360, "height": 900}, **context) as of, of.new_page() as page:
        problems: Problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        page.wait_for_selector("td[data-job]")
        yield page, problems
        assert problems == []


def until(page: Page, condition: str) -> None:
    """Wait for a condition in the page; not by the driver's own way, which the page's policy forbids."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def test_the_grid_shows_prompts_models_money_and_failures(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        assert page.title() == "films · orbatch"
        assert page.locator("tbody tr").count() == 4
        assert page.locator("thead .name").all_inner_texts() == ["veo-3.1-lite", "happyhorse-1.1"]
        failed = page.locator("td.failed")
        assert "no boats today" in failed.inner_text()
        assert "weather rainy" in page.locator("tbody tr").nth(1).inner_text()
        assert "<img src=x onerror=alert(1)>" in page.locator("tbody tr").nth(3).inner_text(), "text, never markup"
        assert page.locator("#money").inner_text().split()[:3] == ["spent", "USD", "1.6656"]
        expect(page.locator("td.done img").first).to_have_js_property("complete", value=True)
        assert page.evaluate("document.querySelector('td.done img').naturalWidth") > 0


def test_filters_are_in_the_address(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.fill("#search", "sunny")
        assert page.locator("tbody tr").count() == 1
        address = page.url
        page.fill("#search", "")
        page.select_option("#show", "failed")
        assert page.locator("td[data-job]").count() == 1
        page.goto(address)
        page.reload()
        page.wait_for_selector("td[data-job]")
        assert page.locator("tbody tr").count() == 1


def test_outputs_are_rated_and_picked_with_the_keyboard_and_undone(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.focus("td.done")
        page.keyboard.press("4")
        expect(page.locator("td.done").first.locator(".star.on")).to_have_count(4)
        page.keyboard.press("p")
        expect(page.locator("td.pick")).to_have_count(1)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("x")
        expect(page.locator("td.reject")).to_have_count(1)
        page.keyboard.press("u")
        expect(page.locator("td.reject")).to_have_count(0)
        page.reload()
        expect(page.locator("td.pick")).to_have_count(1)
        expect(page.locator("#footer")).to_contain_text("1 picked")
    [pick] = ran.call("picks", "--json").json
    assert (pick["prompt_id"], pick["model"], pick["rating"]) == ("dawn", LITE, 4.0)


def test_a_clip_plays_under_the_pointer(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.hover("td.done figure")
        until(page, "document.querySelector('td.done video')?.currentTime > 0")
        page.hover("h1")
        expect(page.locator("td.done video")).to_have_count(0)


def test_outputs_are_compared_on_one_timeline(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.focus("td.done")
        page.keyboard.press("c")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("c")
        page.keyboard.press("Enter")
        expect(page.locator(".stage video")).to_have_count(2)
        until(page, "[...document.querySelectorAll('.stage video')].every((v) => v.readyState > 1)")
        page.click("#on")
        until(page, "[...document.querySelectorAll('.stage video')].every((v) => v.currentTime > 0.03)")
        times = page.evaluate("[...document.querySelectorAll('.stage video')].map((v) => v.currentTime)")
        assert abs(times[0] - times[1]) < 0.01
        page.click("text=Wipe")
        assert "inset" in page.evaluate("document.querySelectorAll('.stage figure')[1].style.clipPath")
        page.keyboard.press("Escape")
        expect(page.locator("table")).to_have_count(1)


def test_a_blind_vote_hides_the_names_until_it_is_given(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.click("text=Blind")
        page.wait_for_selector("#vote-a")
        assert LITE not in page.content().split("<main", 1)[1]
        page.click("#vote-a")
        assert "You chose" in page.inner_text("#revealed")
        page.click("#next")
        page.click("text=Grid")
        expect(page.locator("thead")).to_contain_text("of 1 votes")
    with ran.ledger() as ledger:
        rates = ledger.reviews.win_rates(1)
    assert sorted(rate.wins for rate in rates.values()) == [0, 1]


def test_the_page_follows_a_run(open_desk: Open, browser: Browser) -> None:
    desk = open_desk()
    path = desk.write(prompts=["a cat", "a dog"])
    run(desk, path, "--only", "p1")
    with served(desk) as url, opened(browser, url) as (page, _):
        expect(page.locator("td.pending")).to_have_count(1)
        run(desk, path)
        expect(page.locator("td.done")).to_have_count(2)


def test_rows_are_grouped_and_columns_arranged_and_the_address_keeps_it(ran: Desk, browser: Browser) -> None:
    with served(ran) as url, opened(browser, url) as (page, _):
        page.select_option("#group", "weather")
        groups = page.locator("tr.group")
        assert [text.split("\n")[0] for text in groups.all_inner_texts()][1].startswith("weather: rainy")
        assert groups.count() == 3, "those without the variable are a group, too"
        page.click(f'button[aria-label="Move left: {HORSE}"]')
        assert page.locator("thead .name").all_inner_texts() == ["happyhorse-1.1", "veo-3.1-lite"]
        page.click(f'button[aria-label="Hide: {LITE}"]')
        page.click('button[aria-label="Hide dawn"]')
        expect(page.locator("#all")).to_have_text("Show 2 hidden")
        page.reload()
        page.wait_for_selector("td[data-job]")
        assert page.locator("thead .name").all_inner_texts() == ["happyhorse-1.1"]
        assert page.locator("tbody tr:not(.group)").count() == 3
        page.click("#all")
        assert page.locator("tbody tr:not(.group)").count() == 4
        assert page.locator("thead .name").all_inner_texts() == ["veo-3.1-lite", "happyhorse-1.1"]


def test_outputs_are_filtered_by_cost_and_rating(ran: Desk, browser: Browser) -> None:
    with ran.ledger() as ledger:
        jobs = [job for job in ledger.reports.exported_jobs(1) if job.status == "done"]
        ledger.reviews.add(jobs[0].job_id, "somebody", "rating", "5")
    with served(ran) as url, opened(browser, url) as (page, _):
        page.select_option("#show", "done")  # the failed one was charged nothing, once that is known
        page.fill("#high", "0.2")
        assert page.locator("td[data-job]").count() == 4, "those of the cheap model"
        page.fill("#low", "0.2")
        assert page.locator("td[data-job]").count() == 0
        page.fill("#high", "")
        assert page.locator("td[data-job]").count() == 3
        page.fill("#low", "")
        page.select_option("#least", "4")
        assert page.locator("td[data-job]").count() == 1


def test_notes_are_kept_and_those_of_others_are_shown(ran: Desk, browser: Browser) -> None:
    with ran.ledger() as ledger:
        job = next(job for job in ledger.reports.exported_jobs(1) if job.status == "done")
        ledger.reviews.add(job.job_id, "somebody", "note", "too dark")
    with served(ran) as url, opened(browser, url) as (page, _):
        page.click(f'td[data-job="{job.job_id}"] figure')
        assert "too dark" in page.inner_text(".notes")
        page.fill(".note", "use this one, 1 of 5")  # no key of it rates or picks
        with page.expect_response("**/api/review"):
            page.press(".note", "Tab")
    with ran.ledger() as ledger:
        review = ledger.reviews.of_batch(1)[job.job_id]
    assert sorted(review.notes.values()) == ["too dark", "use this one, 1 of 5"]
    assert (review.ratings, review.marks) == ({}, {})


def test_of_several_outputs_the_best_wins_against_each_other(open_desk: Open, browser: Browser) -> None:
    desk = open_desk()
    run(desk, desk.write(models=[LITE, HORSE, "google/veo-3.1-fast"], prompts=["a cat"]))
    with served(desk) as url, opened(browser, url) as (page, _):
        page.click("text=Blind")
        page.click("#many")
        page.press("#many", "c")
        assert page.inner_text("#revealed").count(" USD)") == 3
    with desk.ledger() as ledger:
        rates = ledger.reviews.win_rates(1)
    assert sorted((rate.wins, rate.votes) for rate in rates.values()) == [(0, 1), (0, 1), (2, 2)]


def test_images_are_compared_at_their_own_size(desk: Desk, browser: Browser) -> None:
    image = {"model": "bytedance-seed/seedream-4.5", "kind": "image"}
    run(desk, desk.write(models=[image], prompts=["a cat", "a dog"], defaults=None))
    with served(desk) as url, opened(browser, url) as (page, _):
        for cell in page.locator("td[data-job]").all():
            cell.focus()
            page.keyboard.press("c")
        page.keyboard.press("Enter")
        page.wait_for_selector(".stage img")
        until(page, "[...document.querySelectorAll('.stage img')].every((image) => image.naturalWidth)")
        page.keyboard.press("z")
        sizes = "[...document.querySelectorAll('.stage img')].every((image) => image.width === image.naturalWidth)"
        assert page.evaluate(sizes)
        page.evaluate("document.querySelector('.zoom').scrollTo(40, 60)")
        until(page, "[...document.querySelectorAll('.zoom')].every((figure) => figure.scrollTop === 60)")
        page.keyboard.press("z")
        assert not page.evaluate(sizes)


def test_two_texts_show_where_they_differ(desk: Desk, browser: Browser) -> None:
    path = desk.write(models=[TEXT], prompts=["a cat", "a dog"], defaults=None)
    run(desk, path)
    with served(desk) as url, opened(browser, url) as (page, _):
        for cell in page.locator("td[data-job]").all():
            cell.focus()
            page.keyboard.press("c")
        page.click("text=Compare 2")
        expect(page.locator("del").first).to_be_visible()
        texts = [box.inner_text() for box in page.locator(".stage pre").all()]
        assert texts[0] != texts[1]
        assert page.locator("ins").count() > 0


def test_a_screen_reader_and_a_keyboard_can_use_it(ran: Desk, browser: Browser) -> None:
    with ran.ledger() as ledger:
        done = [job.job_id for job in ledger.reports.exported_jobs(1) if job.status == "done"]
        ledger.reviews.add(done[0], "somebody", "rating", "4")
        ledger.reviews.add(done[1], "somebody", "mark", "pick")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    with served(ran) as url, opened(browser, url) as (page, _):
        for view, scheme in itertools.product(("grid", "compare", "blind", "value"), ("light", "dark")):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"{url.split('?')[0]}#view={view}&jobs={','.join(done[:2])}&group=weather")
            page.reload()
            page.wait_for_selector("td[data-job], .stage, svg")
            page.evaluate(axe)
            assert page.evaluate("async () => (await axe.run()).violations") == [], f"{view}, {scheme}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(ran: Desk, browser: Browser, scheme: str) -> None:
    with served(ran) as url, opened(browser, url, color_scheme=scheme) as (page, _):
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_an_exported_page_works_without_a_server(ran: Desk, browser: Browser) -> None:
    ran.call("view", "films", "--export", "page")
    ran.call("view", "films", "--export", "page.zip")
    assert (ran.folder / "page.zip").read_bytes().startswith(b"PK")
    with opened(browser, (ran.folder / "page" / "index.html").as_uri()) as (page, _):
        page.fill("#search", "market")
        assert page.locator("tbody tr").count() == 2
        page.focus("td.done")
        page.keyboard.press("p")
        expect(page.locator("td.pick")).to_have_count(1)
        with page.expect_download() as download:
            page.click("text=Download picks")
        assert json.loads(Path(download.value.path()).read_text("utf-8"))["prompt_id"] == "market"
        page.hover("td.done figure")
        until(page, "document.querySelector('td.done video')?.currentTime > 0")
    assert "page already exists" in ran.call("view", "films", "--export", "page", code=2).err


# -- who may look, and at what ---------------------------------------------------------------------------------------


REFUSED: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
    "without the token": lambda _, root: httpx.get(f"{root}/api/batch"),
    "with a wrong one": lambda _, root: httpx.get(f"{root}/?token=x"),
    "by another name (DNS rebinding)": lambda client, root: client.get(
        f"{root}/api/batch", headers={"Host": "evil.example:80"}
    ),
    "a review from another page": lambda client, root: client.post(
        f"{root}/api/review", json={}, headers={"Origin": "https://evil.example"}
    ),
    "a review from no page": lambda client, root: client.post(f"{root}/api/review", json={}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nobody_else_may_look_or_act(ran: Desk, case: str) -> None:
    with served(ran) as url, httpx.Client(follow_redirects=True) as client:
        root = url.partition("/?")[0]
        page = client.get(url)
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "token" not in str(page.url)
        assert REFUSED[case](client, root).status_code == 403


def test_only_what_the_ledger_lists_is_served(ran: Desk) -> None:
    job = next(job for job in ran.jobs() if job["status"] == "done")
    with served(ran) as url, httpx.Client(follow_redirects=True) as client:
        root = url.partition("/?")[0]
        client.get(url)
        part = client.get(f"{root}/media/{job['job_id']}/0", headers={"Range": "bytes=0-9"})
        assert (part.status_code, len(part.content)) == (206, 10)
        assert part.headers["content-type"] == "video/mp4"
        for path in (
            f"media/{job['job_id']}/1",
            "media/nothing/0",
            "media/..%2f..%2forbatch.db/0",
            "static/..%2fdata.py",
        ):
            assert client.get(f"{root}/{path}").status_code == 404
        post = {"job": job["job_id"], "field": "rating", "value": "9"}
        assert client.post(f"{root}/api/review", json=post, headers={"Origin": root}).status_code == 409


def test_other_machines_only_with_share(desk: Desk) -> None:
    desk.orbatch("plan", desk.write())
    assert "Pass --share" in desk.call("view", "films", "--host", "0.0.0.0", "--no-browser", code=2).err  # noqa: S104


def test_a_shared_page_is_reached_by_any_name_with_the_token(ran: Desk) -> None:
    with served(ran, "--host", "0.0.0.0", "--share") as url:  # noqa: S104
        printed = httpx.URL(url)
        assert printed.host != "0.0.0.0", "nobody can open that"  # noqa: S104
        by_another_name = printed.copy_with(host="127.0.0.1")
        assert httpx.get(by_another_name, headers={"Host": "studio.lan"}).status_code == 302
        assert httpx.get(by_another_name.copy_with(query=None)).status_code == 403


# -- from drafts to finals -------------------------------------------------------------------------------------------


def test_picks_become_a_batch_file_with_its_price(ran: Desk) -> None:
    assert "nothing is picked" in ran.call("picks").out
    with ran.ledger() as ledger:
        for job in ledger.reports.exported_jobs(1):
            if job.status == "done" and job.prompt_id in ("market", "hostile"):
                ledger.reviews.add(job.job_id, "me", "mark", "pick")
    assert len(ran.call("picks", "--format", "csv").out.splitlines()) == 7
    said = ran.orbatch("final", "films", "--model", HORSE, "--set", "resolution=1080p", "-o", "finals.yaml")
    assert "Created finals.yaml from 6 picks of films." in said.err
    assert "films-finals: 3 jobs to submit" in said.out
    text = (ran.folder / "finals.yaml").read_text("utf-8")
    assert text.count("# picked: ") == 3
    assert "resolution: 1080p" in text
    assert ran.accepted() == 8, "it spends nothing"
    assert "Choose another name" in ran.call("final", "films", "--model", HORSE, "-o", "finals.yaml", code=2).err
    assert "Give the model" in ran.call("final", "films", code=2).err


def test_a_button_shows_the_finals_and_their_price_and_spends_nothing(ran: Desk, browser: Browser) -> None:
    with ran.ledger() as ledger:
        for job in ledger.reports.exported_jobs(1):
            if job.status == "done" and job.prompt_id == "market":
                ledger.reviews.add(job.job_id, "me", "mark", "pick")
    with served(ran) as url, opened(browser, url) as (page, _):
        page.click("#order-finals")
        page.fill("#final-model", HORSE)
        page.fill("#final-set", "resolution=1080p")
        page.click("text=Estimate")
        expect(page.locator("#offer b")).to_have_text("2 jobs, up to 1.0224 USD")
        assert "orbatch run finals.yaml" in page.inner_text("#offer")
        with page.expect_download() as saved:
            page.click("#offer a")
        (ran.folder / "finals.yaml").write_text(saved.value.path().read_text("utf-8"), "utf-8")
        page.fill("#final-set", "resolution=9000p")
        page.click("text=Estimate")
        expect(page.locator("#offer .bad").first).to_contain_text("resolution")
        page.fill("#final-set", "resolution")
        page.click("text=Estimate")
        expect(page.locator("#offer .bad")).to_contain_text("The setting resolution has no value")
    assert ran.accepted() == 8
    assert "films-finals: 2 jobs to submit, 1.0224 USD" in ran.orbatch("plan", "finals.yaml").out


def test_the_report_says_what_was_picked_and_what_a_pick_cost(ran: Desk) -> None:
    assert "picks" not in ran.call("report", "films").out
    with ran.ledger() as ledger:
        done = [job for job in ledger.reports.exported_jobs(1) if job.status == "done"]
        of = {model: [job for job in done if job.model == model] for model in (LITE, HORSE)}
        ledger.reviews.add(of[LITE][0].job_id, "me", "mark", "pick")
        ledger.reviews.add(of[LITE][0].job_id, "me", "rating", "5")
        ledger.reviews.add(of[LITE][1].job_id, "you", "rating", "4")
        ledger.reviews.vote(of[LITE][1].job_id, of[HORSE][0].job_id, "me")
    lines = [line.split() for line in ran.call("report", "films").out.splitlines()]
    assert lines[0] == ["model", "done", "spent", "USD", "per", "second", "picks", "per", "pick", "rating", "won"]
    [lite] = [line for line in lines if line[0] == LITE]
    assert lite[-5:] == ["1", "0.4800", "4.5", "100", "%"]


def test_the_figures_hold_estimate_and_charge_of_each_model(ran: Desk, browser: Browser) -> None:
    with ran.ledger() as ledger:
        done = [job for job in ledger.reports.exported_jobs(1) if job.status == "done" and job.model == LITE]
        ledger.reviews.add(done[0].job_id, "me", "mark", "pick")
    with served(ran) as url, opened(browser, url) as (page, _):
        page.click("text=Value")
        cells = page.locator(".figures tbody tr").first.locator("td").all_inner_texts()
    assert cells == ["4", "0.48", "0.48", "0.12", "1", "0.48", "0.00", "–", "–"]


def test_a_model_with_two_settings_has_two_columns(open_desk: Open, browser: Browser) -> None:
    desk = open_desk()
    both = [{"model": LITE, "resolution": resolution, "duration": 8} for resolution in ("720p", "1080p")]
    run(desk, desk.write(models=[*both, HORSE], prompts=["a cat"], defaults={"duration": 5}))
    with served(desk) as url, opened(browser, url) as (page, _):
        names = page.locator("thead .name").all_inner_texts()
        assert names == ["veo-3.1-lite · 720p", "veo-3.1-lite · 1080p", "happyhorse-1.1"]
        assert page.locator("tbody tr").count() == 1
        spent = [float(text) for text in page.locator("thead .sums b").all_inner_texts()]
        charged = sorted(float(job.cost_usd) for job in desk.simulator.journal.jobs.values())
        assert sorted(spent) == pytest.approx(charged)
        page.select_option("#model", "google/veo-3.1-lite · 1080p")
        assert page.locator("td[data-job]").count() == 1


def test_of_a_long_batch_only_what_is_near_is_drawn_and_the_keyboard_reaches_all(
    open_desk: Open, browser: Browser
) -> None:
    desk = open_desk()
    run(desk, desk.write(prompts=[{"prompt": "shot {{ n }}", "vars": {"n": list(range(60))}}]))
    with served(desk) as url, opened(browser, url) as (page, _):
        rows, drawn = page.locator("tbody tr"), page.locator("td[data-job]")
        assert rows.count() == 60
        assert drawn.count() < 30
        page.evaluate("document.getElementById('main').scrollTo(0, 1e6)")
        expect(rows.last.locator("td[data-job]")).to_have_count(1)
        assert drawn.count() < 30, "what has gone far away is dropped"
        page.evaluate("document.getElementById('main').scrollTo(0, 0)")
        expect(rows.first.locator("td[data-job]")).to_have_count(1)
        page.locator("td[data-job]").first.focus()
        for _ in range(59):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("p")
        expect(page.locator("td.pick")).to_have_count(1)
    with desk.ledger() as ledger:
        (picked,) = [job for job, review in ledger.reviews.of_batch(1).items() if review.is_picked]
        assert ledger.queries.job(picked).variables == {"n": 59}
