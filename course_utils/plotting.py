"""Figures of the course: one style, readable from the last row, each with a text for those who cannot see it."""

import base64
import html
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from course_utils import PACKAGE_FOLDER

# Okabe & Ito's colors for color-blind readers (black last), and two grays to make ten, one per digit.
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000", "#999999", "#8C510A",
)  # fmt: skip

# One per curve, with the first eight colors.
MARKERS = "osD^vP*X"

SHORTEST_TEXT = 20

# Inside an installed package, or beside it in the repository, where the drawings are a folder of their own.
IMAGE_FOLDERS = (PACKAGE_FOLDER / "images", PACKAGE_FOLDER.parent / "images")

ON_TOP = "grid-area: 1 / 1; border: 0"  # of what has the same place in a grid
# Zoomed out, because the explorer's four maps do not fit beside each other into the width of a cell.
EXPLORER_FRAME = (
    f'<iframe title="Latent space explorer" {{source}} style="{ON_TOP}; width: 100%; height: 100%; zoom: 75%"></iframe>'
)

# Wide enough for a slide, and never more.
WIDTH, HEIGHT = 8.0, 4.2

STYLE: dict = {
    "figure.figsize": (WIDTH, HEIGHT),
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "axes.prop_cycle": plt.cycler(color=COLORS[:8]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 13,
    "axes.titlesize": 14,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "image.cmap": "gray",
}


def use_style() -> None:
    """Draw every figure of this session in the course's style; `setup` calls it."""
    plt.rcParams.update(STYLE)


def show(fig: Figure, *, alt: str, caption: str | None = None) -> None:
    """Display a figure with its alternative text, close it, and write the caption below.

    Args:
        fig: a Matplotlib figure.
        alt: what the figure shows, in a sentence or two, for readers who cannot see it (at least 20 characters).
        caption: what to see in it, in one sentence for all readers; Markdown, formulas included.

    Raises:
        ValueError: `alt` or `caption` is too short to say anything.
    """
    try:
        _require_texts(alt, caption)
        display(fig, metadata={"image/png": {"alt": alt}})
    finally:
        plt.close(fig)  # Jupyter shows what is still open at the end of a cell, without its text
    _show_caption(caption)


def _show_caption(caption: str | None) -> None:
    if caption is not None:
        display({"text/markdown": f"*{caption}*", "text/plain": caption}, raw=True)


def diagram(name: str, *, alt: str, caption: str | None = None) -> None:
    """Display one of the course's drawings, `images/<name>.svg`, which is part of the package and so shows in Colab too.

    Args:
        name: the file's name without `.svg`.
        alt: as for `show`.
        caption: as for `show`.

    Raises:
        ValueError: `alt` or `caption` is too short to say anything, or there is no such drawing.
    """
    _require_texts(alt, caption)
    picture = _picture_html(f"{name}.svg", "image/svg+xml", alt)
    display({"text/html": picture, "text/plain": f"[drawing: {alt}]"}, raw=True)
    _show_caption(caption)


def explorer(*, alt: str, caption: str | None = None) -> None:
    """Display the latent space explorer, a web page that is part of the package; where no script runs, its picture.

    The frame lies on the picture, so that the picture is seen where the frame is taken away: in a notebook that Jupyter
    does not trust yet, on GitHub, on slides.

    Args:
        alt: as for `show`, for the picture.
        caption: as for `show`.

    Raises:
        ValueError: `alt` or `caption` is too short to say anything.
    """
    _require_texts(alt, caption)
    page = html.escape(_image_file("explorer.html").read_text(encoding="utf-8"))
    frame = EXPLORER_FRAME.format(source=f'srcdoc="{page}"')
    picture = _picture_html("explorer.webp", "image/webp", alt, style=ON_TOP)
    text = f'<div class="explorer" style="display: grid; min-height: 50em">{picture}{frame}</div>'
    display({"text/html": text, "text/plain": f"[explorer: {alt}]"}, raw=True)
    _show_caption(caption)


def _image_file(name: str) -> Path:
    found = [path for folder in IMAGE_FOLDERS if (path := folder / name).exists()]
    if not found:
        kind = f"*{Path(name).suffix}"
        known = ", ".join(sorted(path.stem for folder in IMAGE_FOLDERS for path in folder.glob(kind)))
        raise ValueError(f"There is no drawing {Path(name).stem!r}; expected one of: {known}.")
    return found[0]


def _picture_html(name: str, media_type: str, alt: str, style: str = "") -> str:
    """A file of the package as HTML that contains it."""
    source = base64.b64encode(_image_file(name).read_bytes()).decode("ascii")
    styles = "; ".join(filter(None, ["max-width: 100%", style]))
    return f'<img alt="{html.escape(alt)}" style="{styles}" src="data:{media_type};base64,{source}">'


def show_images(
    rows: dict[str, np.ndarray], *, alt: str, caption: str | None = None, titles: list[str] | None = None
) -> None:
    """Show rows of gray images, one label per row.

    Args:
        rows: label → images in [0, 1], shape `(n, 28, 28)`, `(n, 28, 28, 1)` or flat `(n, 784)`; the rows may differ in
            length but not be longer than 16. Values outside [0, 1] are shown as black or white.
        alt: as for `show`.
        caption: as for `show`.
        titles: a short text above each column.

    Raises:
        ValueError: there is no row, a row is empty or too long, or its images are not square.
    """
    columns = max((len(images) for images in rows.values()), default=0)
    if columns > 16 or not all(len(images) for images in rows.values()) or not rows:
        raise ValueError("expected at least one row, and 1 to 16 images in each, so that each can be seen.")
    rows = {label: _as_pictures(images) for label, images in rows.items()}
    label_gap = 0.1
    label_width = label_gap + 0.11 * max(len(label) for label in rows)
    title_height = 0.3 if titles else 0.0
    size = min((WIDTH - label_width) / columns, (HEIGHT - title_height) / len(rows), 1.1)
    width, height = label_width + columns * size, len(rows) * size + title_height
    margins = {"left": label_width / width, "right": 1, "bottom": 0, "top": 1 - title_height / height}
    fig, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(width, height),
        squeeze=False,
        gridspec_kw={"wspace": 0.06, "hspace": 0.06} | margins,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axes_row, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(axes_row, images, strict=False):
            # Pixels as they are: smoothed ones compress badly, and noise would fill the notebook's file.
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes_row[0].text(
            -label_gap / size, 0.5, label, transform=axes_row[0].transAxes, ha="right", va="center", fontsize=12
        )
    for axis, title in zip(axes[0], titles or [], strict=False):
        axis.set_title(title, fontsize=11, pad=3)
    show(fig, alt=alt, caption=caption)


def _as_pictures(images: np.ndarray) -> np.ndarray:
    """Images of any of the course's shapes as `(n, side, side)`."""
    images = np.asarray(images)
    side = round(np.sqrt(images[0].size))
    if images.shape[1:] not in ((side * side,), (side, side), (side, side, 1)):
        raise ValueError(f"expected square gray images, but one has the shape {images[0].shape}.")
    return images.reshape(len(images), side, side)


def plot_learning_curves(
    curves: dict[str, list[float]],
    *,
    alt: str,
    ylabel: str,
    caption: str | None = None,
) -> None:
    """Plot one line per training over its epochs.

    Args:
        curves: label → a number per epoch, such as `history.history["val_loss"]`.
        alt: as for `show`.
        caption: as for `show`.
        ylabel: name and unit of the numbers.

    Raises:
        ValueError: there are no curves, or more than can be told apart.
    """
    if not 1 <= len(curves) <= len(MARKERS):
        raise ValueError(f"expected 1 to {len(MARKERS)} curves, but there are {len(curves)}.")
    fig, axis = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    for (label, values), marker in zip(curves.items(), MARKERS, strict=False):
        axis.plot(range(1, len(values) + 1), values, marker=marker, label=label)
    axis.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axis.set(xlabel="epoch", ylabel=ylabel)
    fig.legend(loc="outside upper center", ncols=2)
    show(fig, alt=alt, caption=caption)


def _require_texts(alt: str, caption: str | None) -> None:
    texts = {"alt": alt} if caption is None else {"alt": alt, "caption": caption}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text.strip()) < SHORTEST_TEXT:
            raise ValueError(
                f"{name} is {text!r}; expected what the picture shows, in a sentence of at least {SHORTEST_TEXT} characters."
            )
