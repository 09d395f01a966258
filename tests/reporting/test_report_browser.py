"""The report in a real browser: what a reader clicks, types and prints. Needs Chromium and Playwright."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from trainings import TRAINING, history, picture

from custom.rendering.case_view import case_view, input_view
from custom.reporting.report import write_report
from custom.reporting.training_page import write_training_page
from custom.runs.tables import RegionResult, StudyResult

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
STUDIES = [
    StudyResult("alpha", score=0.9, p_value=0.01, decision="flag", region_count=2, region_size=4.0, region_unit="ml"),
    StudyResult("beta", score=0.5, p_value=0.1, decision="uncertain", note="Two views; the first was taken."),
    StudyResult("gamma", score=0.1, p_value=0.8, decision="likely_normal"),
    StudyResult("delta", "failed", error="The file is cut off: copy it again."),
]

pytestmark = pytest.mark.slow


def volume_view():
    """Ten slices; region 1 in the third and fourth, region 2 in the eighth, as has the reference."""
    image = np.random.default_rng(0).random((1, 32, 32, 10)).astype(np.float32)
    values, regions = np.zeros_like(image), np.zeros(image.shape, int)
    for number, (z, side) in enumerate([(2, 8), (7, 5)], 1):
        regions[0, 6 : 6 + side, 6 : 6 + side, z] = number
    regions[0, 6:9, 6:9, 3] = 1
    values[regions > 0] = 1.0
    return case_view(image, image, values, regions, regions == 2, 1.0, sides="RLAP")


def image_view():
    image = np.random.default_rng(1).random((1, 32, 24, 1)).astype(np.float32)
    return case_view(image, image, image, None, None, 1.0)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    found = [RegionResult("alpha", k, 2.0, "ml", 1.0, 2.0, 3.0, "mm", 0.9, 1.0, 0.02) for k in (1, 2)]
    views = {"alpha": volume_view(), "beta": image_view(), "gamma": image_view()}
    settings = {"regions": {"alpha": found}, "alpha": 0.05, "healthy_scores": {"image": [0.01 * k for k in range(60)]}}
    run = {"calibration": {"image": {"pixel_threshold": 0.4}, "volume": {"pixel_threshold": 0.4}}}
    write_report(path, "Ward", ["Synthetic data"], run, STUDIES, views, **settings)
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need pip install playwright")
    if CHROMIUM is None:
        pytest.skip("the browser tests need Chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, report):
    """The report, opened; at the end it must have logged nothing and asked for nothing but itself."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(5000)
    opened, logged, requested = context.new_page(), [], []
    opened.on("console", lambda message: logged.append(message.text))
    opened.on("pageerror", lambda error: logged.append(str(error)))
    opened.on("request", lambda request: requested.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    context.close()
    assert logged == []
    assert {url.split("#")[0] for url in requested if not url.startswith("data:")} == {report.as_uri()}


def shown(page):
    """Names in the worklist, top to bottom."""
    rows = page.locator(".studies tbody tr")
    return [rows.nth(k).get_attribute("data-study") for k in range(rows.count()) if rows.nth(k).is_visible()]


def title(page):
    return page.locator("#case-title").inner_text()


def slice_number(page):
    return page.locator("#slice-number").inner_text()


def open_case(page, name):
    page.get_by_role("link", name=name, exact=True).click()
    page.locator("dialog[open]").wait_for()


def wait_for_text(page, selector, text):
    """Wait for a text without a script of its own, which the page's security policy would refuse."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text)


def test_worklist_sorts_by_a_column_in_both_directions_with_failures_last(page):
    assert shown(page) == ["alpha", "beta", "gamma", "delta"]
    page.get_by_role("button", name="Study", exact=True).click()
    assert shown(page) == ["alpha", "beta", "gamma", "delta"]
    page.get_by_role("button", name="Study", exact=True).click()
    assert shown(page) == ["gamma", "beta", "alpha", "delta"]
    page.get_by_role("button", name="Score").click()
    assert shown(page) == ["alpha", "beta", "gamma", "delta"]
    assert page.locator("th.score").get_attribute("aria-sort") == "descending"


def test_decision_sorts_by_urgency(page):
    page.get_by_role("button", name="Decision").click()
    assert shown(page) == ["alpha", "beta", "gamma", "delta"]
    page.get_by_role("button", name="Decision").click()
    assert shown(page) == ["delta", "gamma", "beta", "alpha"]


def test_filters_and_search_narrow_the_worklist(page):
    page.get_by_role("button", name="Uncertain 1").click()
    assert shown(page) == ["beta"]
    page.locator("input[type=search]").fill("zzz")
    assert shown(page) == [] and page.get_by_text("No study matches.").is_visible()
    page.get_by_role("button", name="All 4").click()
    page.locator("input[type=search]").fill("AL")
    assert shown(page) == ["alpha"]
    assert page.locator("#shown").inner_text() == "1 of 4 studies shown"


def test_triage_count_leads_to_its_studies(page):
    page.locator("[data-show=failed]").click()
    assert shown(page) == ["delta"]
    assert page.get_by_role("button", name="Failed 1").get_attribute("aria-pressed") == "true"


def test_case_opens_by_a_click_on_its_row_and_closes_by_escape(page):
    page.locator("tr[data-study=beta] td.score").click()
    page.locator("dialog[open]").wait_for()
    assert (title(page), page.locator("#case-place").inner_text()) == ("beta", "2 of 4")
    assert page.locator("#case-note").inner_text() == "Two views; the first was taken."
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.textContent") == "beta"


def test_arrows_go_to_the_next_and_the_previous_case(page):
    open_case(page, "alpha")
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#case-title", "beta")
    page.keyboard.press("ArrowLeft")
    wait_for_text(page, "#case-title", "alpha")
    assert page.locator("#previous").is_disabled()


def test_next_case_is_the_next_one_shown(page):
    page.get_by_role("button", name="Study", exact=True).click()
    page.get_by_role("button", name="Study", exact=True).click()
    open_case(page, "gamma")
    page.locator("#next").click()
    wait_for_text(page, "#case-title", "beta")


def test_case_opens_from_its_address(page, report):
    page.goto(report.as_uri() + "#case=3")
    page.locator("dialog[open]").wait_for()
    assert title(page) == "gamma"


def test_failed_study_shows_its_reason_in_place_of_images(page):
    open_case(page, "delta")
    assert page.locator("#no-image").inner_text() == "The file is cut off: copy it again."
    assert not page.locator("#viewer").is_visible()


def test_study_that_was_not_assessed_shows_its_image_and_why(browser, tmp_path):
    view = input_view(np.random.default_rng(2).random((1, 32, 24, 3)).astype(np.float32))
    studies = [*STUDIES[:1], StudyResult("knee", "not_assessable", note="Not assessable: the body part is KNEE.")]
    path = tmp_path / "report.html"
    write_report(
        path, "Ward", [], {}, studies, {"alpha": volume_view(), "knee": view}, healthy_scores={"image": [0.1] * 60}
    )
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri() + "#case=1")
        open_again = {"alpha": ["input", "healthy", "map"] if width > 900 else ["map"], "knee": ["input"]}
        page.locator("dialog[open]").wait_for()
        while open_again:
            name = title(page)
            layers = [key for key in ("input", "healthy", "map") if page.locator(f"[data-layer={key}]").is_visible()]
            assert layers == open_again.pop(name)
            assert page.locator("#opacity").is_visible() == page.locator(".scale").is_visible() == (name == "alpha")
            reason = page.locator("#no-image")
            assert reason.is_visible() == (name == "knee")
            assert name == "alpha" or reason.inner_text() == "Not assessable: the body part is KNEE."
            if open_again:
                page.locator("#next").click()
                wait_for_text(page, "#case-title", next(iter(open_again)))
        page.close()


def test_volume_opens_at_its_strongest_slice_and_scrolls(page):
    open_case(page, "alpha")
    assert slice_number(page) == "3 of 10"
    before = page.locator("[data-layer=input] .base").get_attribute("src")
    page.keyboard.press("ArrowDown")
    assert slice_number(page) == "4 of 10"
    assert page.locator("[data-layer=input] .base").get_attribute("src") != before
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowUp")
    assert slice_number(page) == "2 of 10"
    page.locator(".frame").first.hover()
    page.mouse.wheel(0, 100)
    wait_for_text(page, "#slice-number", "3 of 10")
    page.locator("#slice").fill("9")
    assert slice_number(page) == "10 of 10"
    page.keyboard.press("PageDown")
    assert slice_number(page) == "10 of 10"


def test_letters_of_the_patients_sides_are_shown_if_known(page):
    open_case(page, "alpha")
    frame = page.locator("[data-layer=map] .frame")
    box = frame.bounding_box()
    for place, letter, x, y in (
        ("left", "R", 0, 0.5),
        ("right", "L", 1, 0.5),
        ("top", "A", 0.5, 0),
        ("bottom", "P", 0.5, 1),
    ):
        side = frame.locator(f".side.{place}")
        at = side.bounding_box()
        assert side.inner_text() == letter
        assert at["x"] + at["width"] / 2 == pytest.approx(box["x"] + x * box["width"], abs=16)
        assert at["y"] + at["height"] / 2 == pytest.approx(box["y"] + y * box["height"], abs=16)
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#case-title", "beta")
    assert not frame.locator(".side.left").is_visible()


def test_2d_image_has_no_slice_slider(page):
    open_case(page, "beta")
    assert not page.locator("#slice").is_visible() and page.locator("#opacity").is_visible()


def test_opacity_changes_the_map_and_stays_for_the_next_case(page):
    open_case(page, "alpha")
    opacity = "getComputedStyle(document.querySelector('.overlay')).opacity"
    assert page.evaluate(opacity) == "1"
    page.locator("#opacity").fill("40")
    assert page.evaluate(opacity) == "0.4"
    page.locator("#close").focus()
    page.keyboard.press("+")
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert page.evaluate(opacity) == "0.35" and page.locator("#opacity-value").inner_text() == "35 %"
    page.keyboard.press("ArrowRight")
    wait_for_text(page, "#case-title", "beta")
    assert page.evaluate(opacity) == "0.35"


def test_slider_with_the_focus_keeps_its_own_arrows(page):
    open_case(page, "alpha")
    page.locator("#opacity").focus()
    page.keyboard.press("ArrowLeft")
    assert title(page) == "alpha" and page.locator("#opacity-value").inner_text() == "95 %"


def test_region_click_jumps_to_its_slice_and_marks_it(page):
    open_case(page, "alpha")
    page.get_by_role("button", name="Region 2: show its slice and mark it").click()
    assert slice_number(page) == "8 of 10"
    assert page.locator(".regions path.marked").get_attribute("data-region") == "2"
    assert page.locator(".tag").inner_text() == "2"
    page.locator("#region-table tbody tr").first.click()
    assert slice_number(page) == "3 of 10" and page.locator(".tag").inner_text() == "1"
    assert page.locator("#region-table .marked").count() == 1


def test_outlines_can_be_taken_away_each(page):
    open_case(page, "alpha")
    page.locator("#slice").fill("7")
    assert page.locator(".regions path").is_visible() and page.locator("path.truth").is_visible()
    page.get_by_label("Regions", exact=True).uncheck()
    assert not page.locator(".regions path").is_visible() and page.locator("path.truth").is_visible()
    page.get_by_label("Reference").uncheck()
    assert not page.locator("path.truth").is_visible()


def test_toggles_are_there_only_where_there_is_something_to_outline(page):
    open_case(page, "beta")
    assert not page.get_by_label("Regions", exact=True).is_visible()
    assert not page.get_by_label("Reference").is_visible()


def test_everything_in_a_case_is_reached_by_tab(page):
    open_case(page, "alpha")
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
    wanted = {"next", "close", "slice", "opacity", "regions", "truth", "Region 1: show its slice and mark it"}
    assert wanted <= reached


def test_images_have_the_proportions_of_the_patient(page):
    open_case(page, "beta")
    box = page.locator("[data-layer=map] .frame").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(32 / 24, rel=0.01)


def test_phone_shows_one_image_at_a_time_and_never_scrolls_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    open_case(page, "alpha")
    visible = [key for key in ("input", "healthy", "map") if page.locator(f"[data-layer={key}]").is_visible()]
    assert visible == ["map"]
    page.get_by_role("button", name="Input").click()
    assert page.locator("[data-layer=input]").is_visible() and not page.locator("[data-layer=map]").is_visible()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= 390


def test_training_report_fits_a_telephone_and_logs_nothing(browser, tmp_path):
    validations = {number: (0.5 + number / 20, 20.0 - number) for number in range(1, 9)}
    made = history(validations, warmup=4, pictures=[picture(), picture("opacity")])
    write_training_page(tmp_path / "training.html", TRAINING, made, True)
    for width in (390, 1400):
        opened, logged = browser.new_page(viewport={"width": width, "height": 844}), []
        opened.on("console", lambda message: logged.append(message.text))
        opened.goto((tmp_path / "training.html").as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") == width and logged == []
        images = opened.locator(".strip img")
        assert images.count() == 2 * (1 + 2 * 3) and all(images.nth(k).is_visible() for k in range(images.count()))
        assert opened.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        opened.close()


def test_report_and_open_case_print(page):
    whole = page.pdf()
    open_case(page, "alpha")
    case = page.pdf()
    assert whole.startswith(b"%PDF") and case.startswith(b"%PDF")
    assert len(whole) > 20_000 and len(case) > 10_000


def test_report_of_a_hundred_volumes_stays_small_and_opens_at_once(browser, tmp_path):
    smooth = gaussian_filter(np.random.default_rng(0).random((96, 96, 12)), (1, 1, 0))[None]
    view = case_view(smooth, smooth, smooth, smooth > 0.7, None, 1.0)
    studies = [StudyResult(f"s{k}", score=k, p_value=0.5, decision="uncertain") for k in range(100)]
    path = tmp_path / "report.html"
    write_report(path, "Ward", [], {}, studies, {s.study: view for s in studies}, healthy_scores={"image": [0.1] * 60})
    assert 12e6 < path.stat().st_size < 30e6  # with all slices
    page = browser.new_page()
    page.goto(path.as_uri() + "#case=50")
    page.locator("dialog[open]").wait_for()
    seconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    page.close()
    assert 0 < seconds < 2
