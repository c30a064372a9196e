"""Draw the opening picture of lesson 07, numbers that the stored writer wrote: `images/written_numbers.svg`.

    python -m tools.author.written_numbers

Run it again after `07.writer` was trained anew. The digits are stored in the drawing as one picture of gray pixels.
"""

import base64
import io

import numpy as np
from PIL import Image

from course_utils.data import load_mnist
from course_utils.devices import setup
from course_utils.lessons import ConditionalVAE, build_writer_networks, fit_each_digit, with_fitted_prior, write_digits
from course_utils.pretrained import load_pretrained
from tools.shared.notebook_files import ROOT, replace_file

FILE = ROOT / "images" / "written_numbers.svg"

# Text → seed of the handwriting, chosen by eye from the first 48 so that they differ; all have the same length.
NUMBERS = {"2026": 12, "3141": 30, "1984": 20, "5077": 28, "2718": 16, "6021": 23}
COLUMNS = 2
SCALE = 4

SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
  <title>Numbers that a network wrote</title>
  <desc>{numbers}, each in a handwriting of its own. Made by tools/author/written_numbers.py.</desc>
  <rect width="{width}" height="{height}" rx="14" fill="#000000"/>
  <image x="24" y="16" width="{inner_width}" height="{inner_height}" href="data:image/png;base64,{png}"/>
</svg>
"""


def trained_writer():
    """The network from noise and labels to digits that lesson 07 ends with."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    writer = ConditionalVAE(*build_writer_networks([480, 240], latent=16, n_labels=10), beta=0.5)
    load_pretrained("07.writer", writer)
    mu, log_var = writer.encoder.predict([x_train, np.eye(10)[y_train]], batch_size=1000, verbose=0)
    codes = mu + np.exp(log_var / 2) * np.random.default_rng(0).normal(size=mu.shape)
    return with_fitted_prior(writer.decoder, *fit_each_digit(codes, y_train))


def drawing(generator) -> str:
    """The numbers in rows, as the text of an SVG."""
    written = [write_digits(text, generator, seed) for text, seed in NUMBERS.items()]
    gap = np.zeros((28, 28))
    rows = [
        np.hstack([part for picture in written[i : i + COLUMNS] for part in (picture, gap)][:-1])
        for i in range(0, len(written), COLUMNS)
    ]
    pixels = np.vstack([part for row in rows for part in (row, np.zeros((8, row.shape[1])))][:-1])
    height, width = pixels.shape
    image = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype("uint8"))
    content = io.BytesIO()
    image.resize((2 * width, 2 * height), Image.Resampling.BICUBIC).save(content, "png")
    return SVG.format(
        width=SCALE * width + 48,
        height=SCALE * height + 32,
        inner_width=SCALE * width,
        inner_height=SCALE * height,
        numbers=", ".join(NUMBERS),
        png=base64.b64encode(content.getvalue()).decode("ascii"),
    )


if __name__ == "__main__":
    setup("07")
    replace_file(FILE, drawing(trained_writer()))
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")
