"""The explorer computes what Keras computes, and can be used with mouse, finger and keyboard."""

import json

import numpy as np
import pytest
from bs4 import BeautifulSoup

from course_utils import plotting
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import VAE, ConditionalVAE, kl_to_standard_normal
from course_utils.plotting import COLORS
from course_utils.pretrained import load_pretrained
from tools.author.pretrain import RECIPES
from tools.explorer.build import ENTRIES, FILE, PICTURE, page, rounded_model

pytestmark = pytest.mark.slow

AE, PLAIN_VAE, BETA_VAE, CONDITIONAL = range(4)
MODES = ("walk", "interpolate", "sample")
SIZES = {
    "slide": (1280, 720),
    "tablet": (1024, 768),
    "upright": (900, 1200),
    "projector": (1920, 1080),
    "phone": (390, 844),
}

# Evaluated in the page, with a model's number, pictures, labels as rows of ten, and codes
CODES = """([k, x, y]) => x.map((one, i) => {
  const { mu, logVar } = encode(cards[k].model, one, y[i]);
  return [...mu, ...(logVar ?? [])];
})"""
PIXELS = "([k, z, y]) => z.map((one, i) => Array.from(decode(cards[k].model, one, y[i])))"
POINT = "(k) => Array.from(cards[k].z)"
CENTER = "(k) => Array.from(cards[k].clouds.start.mu)"
DECODED = "(k) => Array.from(decode(cards[k].model, cards[k].z, labelNow()))"

FOCUSED = "(({ id, name, className, tagName }) => id || name || className || tagName)(document.activeElement)"
FOCUS_IS_SEEN = """() => {
  const { activeElement: element } = document;
  const drawn = element.type === "radio" ? element.nextElementSibling : element;
  return getComputedStyle(drawn).outlineStyle !== "none" && parseFloat(getComputedStyle(drawn).outlineWidth) >= 2;
}"""


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """The page as a file."""
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(page(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def test_digits():
    _, _, (x_test, y_test) = load_mnist(flat=True)
    return x_test[:1000], y_test[:1000]


def outputs(network, values, y):
    """What a network of Keras gives, as one array, whether or not it is told labels."""
    results = network([values, y] if len(network.inputs) == 2 else values)
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in keras.tree.flatten(results)], axis=-1)


def settled(tab):
    """Wait until everything that was asked for is drawn."""
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return tab


def choose(tab, name, value):
    tab.locator(f"[name={name}][value={value}]").check(force=True)
    return settled(tab)


def draw(tab, *points):
    """One stroke of the mouse through points in parts of the drawing area."""
    box = tab.locator("#pad").bounding_box()
    places = [(box["x"] + right * box["width"], box["y"] + down * box["height"]) for right, down in points]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=4)
    tab.mouse.up()
    settled(tab)


def test_the_page_is_small(explorer):
    assert explorer.stat().st_size <= 1_500_000


def test_the_stored_page_is_the_one_that_the_stored_weights_give(explorer):
    """Its text, scripts and weights; the codes and the table of means differ in the last digits from run to run."""
    now, before = (BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in (explorer, FILE))
    now.tbody.decompose()
    before.tbody.decompose()
    assert [tag.string for tag in now.find_all(["style", "script"]) if tag.get("id") != "data"] == [
        tag.string for tag in before.find_all(["style", "script"]) if tag.get("id") != "data"
    ]
    assert now.body.get_text().split() == before.body.get_text().split()
    for one, other in zip(
        *(json.loads(stored.find(id="data").string)["models"] for stored in (now, before)), strict=True
    ):
        assert (one["encoder"], one["decoder"]) == (other["encoder"], other["decoder"])
    assert PICTURE.stat().st_size < 100_000


def test_it_runs_inside_a_notebook(open_page, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, raw: shown.append(data["text/html"]))
    plotting.explorer(alt="The page with its four maps.")
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><title>Notebook</title><main>{shown[0]}</main>", encoding="utf-8")
    tab = open_page(notebook, size=(1000, 900))
    tab.locator("img").evaluate("(image) => image.decode()")  # before it is there the page below it moves
    outer, picture = tab.locator("iframe").bounding_box(), tab.locator("img").bounding_box()
    assert outer["width"] > 900
    assert outer["height"] >= max(600, picture["height"])
    page_in_frame = tab.frames[1]
    assert page_in_frame.evaluate("cards.length") == 4
    # The frame is zoomed out, which Playwright's own clicks do not know.
    zoom = outer["width"] / page_in_frame.evaluate("innerWidth")
    box = page_in_frame.evaluate("document.querySelectorAll('#digits label')[17].getBoundingClientRect().toJSON()")
    tab.mouse.click(outer["x"] + zoom * (box["x"] + 9), outer["y"] + zoom * (box["y"] + 9))
    page_in_frame.wait_for_function("byId('wanted').value == '7'")


def test_codes_and_pictures_are_those_of_keras(explorer, open_page, test_digits):
    tab, rng = open_page(explorer), np.random.default_rng(0)
    x = np.concatenate([test_digits[0][:12], np.zeros((1, 784), "float32")])
    y = np.eye(10, dtype="float32")[[*test_digits[1][:12], 3]]
    y[0] = 0.5 * y[0] + 0.5 * y[1]  # halfway between two digits
    for k, entry in enumerate(ENTRIES):
        model = rounded_model(entry.recipe)
        expected = outputs(model.get_layer("encoder"), x, y)
        codes = np.array(tab.evaluate(CODES, [k, x.tolist(), y.tolist()]))
        np.testing.assert_allclose(codes, expected, rtol=0, atol=1e-4, err_msg=entry.name)
        z = (rng.normal(size=(len(x), 2)) * np.abs(expected[:, :2]).max()).astype("float32")
        pixels = np.array(tab.evaluate(PIXELS, [k, z.tolist(), y.tolist()]))
        np.testing.assert_allclose(
            pixels, outputs(model.get_layer("decoder"), z, y), rtol=0, atol=1e-4, err_msg=entry.name
        )


def test_nats_are_those_of_lesson_06(explorer, open_page, test_digits):
    tab, rng = open_page(explorer), np.random.default_rng(0)
    x, y = test_digits[0][:1], np.eye(10, dtype="float32")[test_digits[1][:1]]
    tab.evaluate("([x, label]) => setInput({ x, label })", [x[0].tolist(), int(test_digits[1][0])])
    for k, entry in enumerate(ENTRIES):
        model, numbers = rounded_model(entry.recipe), tab.evaluate("(k) => numbersOf(cards[k])", k)
        code, decoder = outputs(model.get_layer("encoder"), x, y), model.get_layer("decoder")
        assert numbers.pop("error") == pytest.approx(nats(x, outputs(decoder, code[:, :2], y)), abs=1e-2)
        if not isinstance(model, VAE):
            assert not numbers
            continue
        mu, log_var = code[:, :2], code[:, 2:]
        assert numbers["kl"] == pytest.approx(float(kl_to_standard_normal(mu, log_var)[0]), abs=1e-4)
        z = (mu + np.exp(log_var / 2) * rng.normal(size=(2000, 2))).astype("float32")
        assert numbers["cloud"] == pytest.approx(nats(x, outputs(decoder, z, np.repeat(y, 2000, axis=0))), abs=0.8)
        assert numbers["nelbo"] == pytest.approx(numbers["cloud"] + numbers["kl"])


def nats(x, x_hat):
    return float(
        np.mean(keras.ops.sum(keras.ops.binary_crossentropy(np.repeat(x, len(x_hat), axis=0), x_hat), axis=-1))
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_rounded_weights_cost_next_to_nothing(entry, test_digits):
    stored = RECIPES[entry.recipe].build()
    load_pretrained(entry.recipe, stored)
    inputs = [test_digits[0], np.eye(10)[test_digits[1]]] if isinstance(stored, ConditionalVAE) else test_digits[0]
    errors = []
    for model in (stored, rounded_model(entry.recipe)):
        x_hat = model.predict(inputs, batch_size=1000, verbose=0)
        errors.append(float(np.mean(keras.ops.sum(keras.ops.binary_crossentropy(test_digits[0], x_hat), axis=-1))))
    assert errors[0] != errors[1]
    assert abs(errors[0] - errors[1]) < 0.15


def test_it_fits_into_every_window(explorer, open_page, overflow):
    tab = open_page(explorer)
    tab.locator("summary").click()
    for name, (width, height) in SIZES.items():
        tab.set_viewport_size({"width": width, "height": height})
        for mode in MODES:
            assert overflow(choose(tab, "mode", mode)) == 0, (name, mode)


@pytest.mark.parametrize(("size", "dark"), [("slide", False), ("phone", True)])
def test_nobody_is_locked_out(size, dark, explorer, open_page, grave_violations):
    tab = open_page(explorer, size=SIZES[size], dark=dark)
    tab.locator("summary").click()
    for mode in MODES:
        assert grave_violations(choose(tab, "mode", mode)) == [], mode


def test_the_colors_of_the_digits_are_those_of_the_course_and_black_turns_light_in_the_dark(explorer, open_page):
    light, dark = (open_page(explorer, dark=dark).evaluate("theme.digits") for dark in (False, True))
    black = COLORS.index("#000000")
    assert [c for i, c in enumerate(light) if i != black] == [c for c in COLORS if c != "#000000"]
    assert [c for i, c in enumerate(dark) if i != black] == [c for c in COLORS if c != "#000000"]
    assert light[black] != dark[black]


def test_a_picked_digit_goes_to_its_code_in_all_maps_and_its_numbers_are_shown(explorer, open_page):
    tab = open_page(explorer)
    before = [tab.evaluate(POINT, k) for k in range(4)]
    tab.locator("#digits input").nth(17).check(force=True)
    settled(tab)
    assert tab.locator("#wanted").input_value() == "7"
    for k in range(4):
        assert tab.evaluate(POINT, k) == tab.evaluate(CENTER, k) != before[k]
        shown = float(tab.locator(".model").nth(k).locator("[data-number=error]").text_content())
        assert shown == pytest.approx(tab.evaluate("(k) => numbersOf(cards[k]).error", k), abs=0.06)
    tab.wait_for_function("document.getElementById('status').textContent.includes('nats')", timeout=10_000)
    assert tab.locator("#status").text_content().count("error") == 4


def test_a_drawn_digit_is_centered_and_gets_the_label_that_explains_it_best(explorer, open_page):
    tab = open_page(explorer)
    draw(tab, (0.2, 0.1), (0.2, 0.6))
    assert tab.locator("#wanted").input_value() == "1"
    assert tab.evaluate("document.querySelector('#digits :checked')") is None
    assert tab.evaluate("centerOfMass(state.inputs.start.x)") == pytest.approx([14, 14], abs=0.1)
    tab.locator("#clear").click()
    assert tab.evaluate("Math.max(...state.inputs.start.x)") == 0


def test_the_place_and_the_size_of_a_drawing_do_not_matter(explorer, open_page):
    tab = open_page(explorer)
    seven = np.array([[0.1, 0.1], [0.5, 0.1], [0.3, 0.7]])
    small, large = (tab.evaluate("(s) => Array.from(pictureOf([s]))", s.tolist()) for s in (0.5 * seven + 0.4, seven))
    np.testing.assert_allclose(small, large, atol=1e-5)
    rows, columns = np.nonzero(np.reshape(large, (28, 28)) > 0.5)
    assert np.ptp(rows) + 1 in (19, 20, 21)  # as in MNIST, whose digits fit into 20 × 20 pixels
    assert np.ptp(columns) + 1 < 20


def test_the_point_follows_the_mouse_and_the_digit_the_point(explorer, open_page):
    tab = open_page(explorer)
    others = [tab.evaluate(POINT, k) for k in (AE, BETA_VAE, CONDITIONAL)]
    picture, box = tab.evaluate(DECODED, PLAIN_VAE), tab.locator(".map").nth(PLAIN_VAE).bounding_box()
    tab.mouse.move(box["x"] + 10, box["y"] + 10)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    tab.mouse.up()
    tab.mouse.move(0, 0)
    settled(tab)
    half = tab.evaluate("(k) => cards[k].model.half", PLAIN_VAE)
    assert tab.evaluate(POINT, PLAIN_VAE) == pytest.approx([-half / 2, -half / 2], rel=0.02)
    assert np.abs(np.subtract(tab.evaluate(DECODED, PLAIN_VAE), picture)).max() > 0.3
    assert [tab.evaluate(POINT, k) for k in (AE, BETA_VAE, CONDITIONAL)] == others
    tab.wait_for_function("document.getElementById('status').textContent.startsWith('VAE: code')", timeout=10_000)


def test_a_finger_moves_the_point(explorer, open_page):
    tab = open_page(explorer, size=SIZES["phone"], touch=True)
    tab.locator(".map").nth(AE).tap(position={"x": 20, "y": 20})
    settled(tab)
    assert tab.evaluate(POINT, AE) != tab.evaluate(CENTER, AE)


def test_arrow_keys_walk_and_home_goes_back(explorer, open_page):
    tab = open_page(explorer)
    start, steps = np.array(tab.evaluate(POINT, BETA_VAE)), []
    tab.locator(".map").nth(BETA_VAE).focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowUp"):
        before = np.array(tab.evaluate(POINT, BETA_VAE))
        tab.keyboard.press(key)
        steps.append(np.array(tab.evaluate(POINT, BETA_VAE)) - before)
    large, small, up = steps
    assert large[0] == pytest.approx(5 * small[0])
    assert large[1] == small[1] == up[0] == 0
    assert small[0] > 0
    assert up[1] == pytest.approx(large[0])
    for _ in range(100):
        tab.keyboard.press("ArrowUp")
    assert tab.evaluate(POINT, BETA_VAE)[1] == tab.evaluate("(k) => cards[k].model.half", BETA_VAE)
    tab.keyboard.press("Home")
    np.testing.assert_allclose(tab.evaluate(POINT, BETA_VAE), start)


def test_the_tab_key_reaches_everything_in_the_order_of_reading_and_focus_is_seen(explorer, open_page):
    tab, reached = open_page(explorer), []
    assert tab.evaluate("[...document.querySelectorAll('*')].every((e) => getComputedStyle(e).outlineStyle === 'none')")
    for _ in range(10):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate(FOCUSED))
        assert tab.evaluate(FOCUS_IS_SEEN), reached[-1]
    assert reached == ["clear", "digit", "mode", "view", "map", "map", "map", "wanted", "map", "SUMMARY"]


def test_interpolation_leads_from_one_digit_to_the_other(explorer, open_page):
    tab = choose(open_page(explorer), "mode", "interpolate")
    choose(tab, "active", "end")
    tab.locator("#digits input").nth(20).check(force=True)  # a zero
    tab.locator("#position").focus()
    for key, position in (("Home", 0.0), ("End", 1.0)):
        tab.keyboard.press(key)
        settled(tab)
        assert tab.locator("#position-shown").text_content() == f"{position:.2f}"
        for k in range(4):
            ends = tab.evaluate("(k) => ['start', 'end'].map((which) => Array.from(cards[k].clouds[which].mu))", k)
            assert tab.evaluate(POINT, k) == pytest.approx(ends[int(position)])
    assert tab.evaluate("labelNow()") == [1, *9 * [0]]
    assert tab.evaluate("state.inputs.start.label") == 4
    blend = tab.evaluate("Array.from(byId('blend').getContext('2d').getImageData(0, 0, 28, 28).data)")[::4]
    np.testing.assert_allclose(blend, 255 * np.array(tab.evaluate("Array.from(state.inputs.end.x)")), atol=1)
    tab.locator("#position").fill("0.5")
    settled(tab)
    assert tab.evaluate("labelNow()") == [0.5, 0, 0, 0, 0.5, 0, 0, 0, 0, 0]
    choose(tab, "mode", "walk")
    assert tab.evaluate(POINT, AE) == tab.evaluate(CENTER, AE)


def test_samples_are_as_wide_as_the_temperature_says(explorer, open_page):
    tab = choose(open_page(explorer), "mode", "sample")
    for k in (AE, PLAIN_VAE):
        zero, one, two = (spread(tab, k, temperature) for temperature in (0, 1, 2))
        np.testing.assert_allclose(zero, 0, atol=1e-6)
        assert one.min() > 0.5
        np.testing.assert_allclose(two, 2 * one, rtol=1e-6)
    assert np.all(np.abs(np.array(tab.evaluate("normalPairs(4000, 3)")).std(axis=0) - 1) < 0.03)
    tab.locator("#temperature").fill("1")
    first = tab.evaluate("(k) => samplesOf(cards[k])", PLAIN_VAE)
    tab.locator("#again").click()
    assert tab.evaluate("(k) => samplesOf(cards[k])", PLAIN_VAE) != first


def spread(tab, k, temperature):
    tab.locator("#temperature").fill(str(temperature))
    return np.array(tab.evaluate("(k) => samplesOf(cards[k])", k)).std(axis=0)


def test_another_label_changes_the_conditional_model_alone(explorer, open_page):
    tab = open_page(explorer)
    before = [tab.evaluate(DECODED, k) for k in range(4)]
    tab.locator("#wanted").select_option("0")
    settled(tab)
    changes = [np.abs(np.subtract(tab.evaluate(DECODED, k), before[k])).max() for k in range(4)]
    assert changes[:3] == [0, 0, 0]
    assert changes[CONDITIONAL] > 0.3


def test_what_is_drawn_is_drawn_in_time(explorer, open_page):
    """The bound is generous, for other programs may be running: a frame takes some milliseconds."""
    tab = settled(open_page(explorer))
    frames = tab.evaluate(
        "Array.from({ length: 21 }, () => { const start = performance.now(); drawAll(); return performance.now() - start; })"
    )
    assert np.median(frames) < 100
