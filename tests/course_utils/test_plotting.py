"""Every figure fits a slide, says in words what it shows, and leaves nothing open behind it."""

import base64
import html
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.legend import Legend

from course_utils import plotting
from tests.processes import run_in_kernel

ALT = "Ten digits above their reconstructions."
CAPTION = "Compare the loops of the 9."

SLIDE = np.array([8.0, 4.2]) + 1e-6


@pytest.fixture(scope="module", autouse=True)
def no_windows():
    backend = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.switch_backend(backend)


@pytest.fixture
def displayed(monkeypatch):
    """Everything that is displayed, as pairs of object and keyword arguments; figures are measured while they are open."""
    shown = []

    def record(thing, **arguments):
        if isinstance(thing, plt.Figure):
            thing.extent = thing.get_tightbbox().size
        shown.append((thing, arguments))

    monkeypatch.setattr(plotting, "display", record)
    return shown


@pytest.fixture
def drawings(monkeypatch, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("autoencoder", "vae"):
        (folder / f"{name}.svg").write_text(f"<svg><!-- {name} --></svg>", encoding="utf-8")
    (folder / "explorer.html").write_text('<p title="a & b">1 < 2</p>', encoding="utf-8")
    (folder / "explorer.webp").write_bytes(b"a picture")
    monkeypatch.setattr(plotting, "IMAGE_FOLDERS", (tmp_path / "none", folder))


def images(n, *shape):
    return np.random.default_rng(0).uniform(size=(n, *shape))


def public_functions():
    return [
        (name, function)
        for name, function in inspect.getmembers(plotting, inspect.isfunction)
        if function.__module__ == plotting.__name__ and not name.startswith("_") and name != "use_style"
    ]


CALLS = {
    "show": lambda **texts: plotting.show(plt.figure(), **texts),
    "diagram": lambda **texts: plotting.diagram("vae", **texts),
    "explorer": lambda **texts: plotting.explorer(**texts),
    "show_images": lambda **texts: plotting.show_images({"x": images(3, 784)}, **texts),
    "plot_learning_curves": lambda **texts: plotting.plot_learning_curves({"x": [2.0, 1.0]}, ylabel="loss", **texts),
}


def test_every_public_function_is_called_in_these_tests():
    assert sorted(name for name, _ in public_functions()) == sorted(CALLS)


@pytest.mark.parametrize("function", [pytest.param(function, id=name) for name, function in public_functions()])
def test_every_public_function_requires_alt_by_name(function):
    alt = inspect.signature(function).parameters["alt"]
    assert alt.kind is inspect.Parameter.KEYWORD_ONLY
    assert alt.default is inspect.Parameter.empty


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("alt", ["", "a plot", " " * 30, "nineteen characters", None])
def test_a_text_that_says_nothing_is_refused_and_leaves_no_figure(name, alt, displayed, drawings):
    with pytest.raises(ValueError, match=r"alt is .*; expected what the picture shows.*at least 20 characters"):
        CALLS[name](alt=alt)
    assert displayed == []
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_caption_stands_below_the_picture_for_all_to_see(name, displayed, drawings):
    CALLS[name](alt=ALT, caption=CAPTION)
    _, (caption, arguments) = displayed
    assert arguments == {"raw": True}
    assert caption == {"text/markdown": f"*{CAPTION}*", "text/plain": CAPTION}


@pytest.mark.parametrize("name", CALLS)
def test_a_caption_that_says_nothing_is_refused_and_leaves_no_figure(name, displayed, drawings):
    with pytest.raises(ValueError, match=r"caption is 'Digits'; expected what the picture shows"):
        CALLS[name](alt=ALT, caption="Digits")
    assert displayed == []
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("diagram", "explorer")])
def test_a_figure_is_shown_once_with_its_text_and_then_closed(name, displayed):
    CALLS[name](alt=ALT)
    ((figure, arguments),) = displayed
    assert arguments == {"metadata": {"image/png": {"alt": ALT}}}
    if name != "show":
        assert (figure.get_size_inches() <= SLIDE).all()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("titles", [None, "short"])
@pytest.mark.parametrize("label", ["x", "PCA with 32 numbers"])
@pytest.mark.parametrize(("n_rows", "columns"), [(1, 1), (1, 16), (4, 10), (20, 3)])
def test_image_grids_fit_a_slide_with_all_their_labels(n_rows, columns, label, titles, displayed):
    rows = {f"{label} {row}": images(columns, 8, 8) for row in range(n_rows)}
    plotting.show_images(rows, alt=ALT, titles=titles and [titles] * columns)
    ((figure, _),) = displayed
    assert (figure.get_size_inches() <= SLIDE).all()
    assert (figure.extent <= SLIDE).all()


@pytest.mark.parametrize("shape", [(784,), (28, 28), (28, 28, 1)])
def test_images_of_every_shape_of_the_course_are_drawn_upright(shape, displayed):
    x = images(3, *shape)
    plotting.show_images({"first": x, "second": x[:2]}, alt=ALT, titles=["a", "b", "c"])
    ((figure, _),) = displayed
    grid = np.reshape(figure.axes, (2, 3))
    for axis, image in zip(grid[0], x, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image.reshape(28, 28))
        assert axis.images[0].get_clim() == (0, 1)
        assert axis.images[0].get_cmap().name == "gray"
    assert [len(axis.images) for axis in grid[1]] == [1, 1, 0]
    assert [axis.get_title() for axis in grid[0]] == ["a", "b", "c"]
    assert [row[0].texts[0].get_text() for row in grid] == ["first", "second"]


@pytest.mark.parametrize(
    "rows",
    [{"x": np.zeros((17, 784))}, {"x": np.zeros((3, 784)), "y": np.zeros((0, 784))}, {"x": np.zeros((0, 784))}, {}],
    ids=["seventeen", "one row empty", "only row empty", "no row"],
)
def test_empty_and_overlong_rows_are_refused(rows, displayed):
    with pytest.raises(ValueError, match="at least one row, and 1 to 16 images in each"):
        plotting.show_images(rows, alt=ALT)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("shape", [(783,), (28, 14), (28, 28, 3), (4, 4, 4)])
def test_images_that_are_not_square_and_gray_are_refused_and_leave_no_figure(shape, displayed):
    with pytest.raises(ValueError, match="expected square gray images"):
        plotting.show_images({"x": images(2, *shape)}, alt=ALT)
    assert plt.get_fignums() == []


def test_learning_curves_start_at_epoch_one_and_have_their_names(displayed):
    curves = {"training": [0.3, 0.2, 0.1], "validation": [0.31, 0.22]}
    plotting.plot_learning_curves(curves, alt=ALT, ylabel="loss (nats)")
    ((figure, _),) = displayed
    (axis,) = figure.axes
    training, validation = axis.lines
    assert training.get_xydata().tolist() == [[1, 0.3], [2, 0.2], [3, 0.1]]
    assert validation.get_xydata().tolist() == [[1, 0.31], [2, 0.22]]
    (legend,) = figure.findobj(Legend)
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    assert (axis.get_yscale(), axis.get_xlabel(), axis.get_ylabel()) == ("linear", "epoch", "loss (nats)")


def test_eight_learning_curves_can_be_told_apart(displayed):
    plotting.plot_learning_curves({str(i): [1.0, 0.5] for i in range(8)}, alt=ALT, ylabel="loss")
    ((figure, _),) = displayed
    lines = figure.axes[0].lines
    assert len({line.get_marker() for line in lines}) == 8
    assert len({line.get_color() for line in lines}) == 8


@pytest.mark.parametrize("n", [0, 9])
def test_more_curves_than_can_be_told_apart_are_refused(n, displayed):
    with pytest.raises(ValueError, match=f"1 to 8 curves, but there are {n}"):
        plotting.plot_learning_curves({str(i): [1.0] for i in range(n)}, alt=ALT, ylabel="loss")
    assert plt.get_fignums() == []


def test_a_diagram_is_the_drawing_itself_with_its_text(displayed, drawings):
    plotting.diagram("vae", alt=ALT)
    ((data, arguments),) = displayed
    assert arguments == {"raw": True}
    assert f'alt="{ALT}"' in data["text/html"]
    assert ALT in data["text/plain"]
    source = data["text/html"].partition("data:image/svg+xml;base64,")[2].partition('"')[0]
    assert base64.b64decode(source) == b"<svg><!-- vae --></svg>"


def test_the_text_of_a_diagram_is_escaped_for_html(displayed, drawings):
    alt = 'The loss "BCE" & <script>alert(1)</script> for x < 1, written x &lt; 1'
    plotting.diagram("vae", alt=alt)
    markup = displayed[0][0]["text/html"]
    attribute = markup.partition('alt="')[2].partition('"')[0]
    assert html.unescape(attribute) == alt
    assert "<script" not in markup


def test_an_unknown_diagram_is_refused_with_the_list_of_the_known_ones(drawings):
    with pytest.raises(ValueError, match="no drawing 'veo'; expected one of: autoencoder, vae"):
        plotting.diagram("veo", alt=ALT)


def test_the_explorer_is_a_frame_with_the_page_on_a_picture_with_its_text(displayed, drawings):
    plotting.explorer(alt=ALT)
    ((data, arguments),) = displayed
    assert arguments == {"raw": True}
    picture, frame = BeautifulSoup(data["text/html"], features="html.parser").div.find_all(recursive=False)
    assert picture["alt"] == ALT
    assert base64.b64decode(picture["src"].removeprefix("data:image/webp;base64,")) == b"a picture"
    assert frame["srcdoc"] == '<p title="a & b">1 < 2</p>'
    assert ALT in data["text/plain"]


def test_in_jupyter_each_figure_is_stored_once_as_a_picture_with_its_text(tmp_path):
    _, refused, grid, curves = run_in_kernel(
        "import numpy as np\nfrom course_utils import plotting",
        "try:\n    plotting.show_images({'x': np.zeros((2, 784))}, alt='short')\nexcept ValueError:\n    pass",
        f"plotting.show_images({{'x': np.zeros((16, 784))}}, alt={ALT!r})",
        f"plotting.plot_learning_curves({{'x': [2, 1]}}, alt={ALT!r}, caption={CAPTION!r}, ylabel='loss')",
        folder=tmp_path,
    )
    assert refused == []
    *curves, caption = curves
    assert caption.data == {"text/markdown": f"*{CAPTION}*", "text/plain": CAPTION}
    for outputs in (grid, curves):
        (output,) = outputs
        assert output.output_type == "display_data"
        assert output.metadata["image/png"]["alt"] == ALT
        assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
