"""The programs that make notebooks and lessons.py, on small notebooks in a temporary folder."""

import base64
import io
import json
import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tests.notebooks import notebook_rules as rules
from tests.notebooks.sample import code, markdown
from tools.author import execute, export_lessons, stamp
from tools.shared.mathml import FormulaError, to_mathml
from tools.shared.notebook_files import has_tag, notebook_text, read_notebook, replace_file, ruff_format
from tools.shared.web_pages import PageError, require_offline

ADDRESS, VERSION = "https://github.com/someone/autoencoder-course", "1.2.0"


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def test_notebook_text_is_formatted_and_complete(notebook):
    wide = f"f({'x' * 45}, {'y' * 45})"
    notebook.cells[2].source = f"x  =  'é'\n{wide}"
    text = notebook_text(notebook)
    assert text.endswith("}\n")
    assert nbformat.reads(text, as_version=4).cells[2].source.startswith('x = "é"\nf(\n'), "lines are shorter than 94"
    assert ruff_format(f"{wide}\n", "tools/module.py") == f"{wide}\n", "elsewhere they may be longer"
    with pytest.raises(ValueError, match=r"broken\.py"):
        ruff_format("def f(:", "broken.py")


def test_replace_file_keeps_the_old_content_until_the_new_one_is_complete(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    replace_file(path, "old")

    def killed(source, target):
        assert Path(source).read_text() == "new"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, "new")
    assert path.read_text() == "old"


def test_execute_stores_outputs_without_noise(notebook, tmp_path):
    pieces = "import os\nimport sys\n\nfor i in range(3):\n    print(i)\n    sys.stdout.flush()\n"
    notebook.cells = [
        markdown("title", "# 98 · Sample"),
        code("pieces", pieces + "print(sorted(k for k in os.environ if k.startswith('COURSE_')))"),
        code("folder", "os.path.basename(os.getcwd())"),
    ]
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    notebook.metadata.pop("language_info")
    path = write(notebook, tmp_path / "lessons" / "98_sample.ipynb")
    run = execute.execute(path)
    assert run.seconds > 0
    assert run.private_mb > 0
    executed = read_notebook(path)
    assert [output.text for output in executed.cells[1].outputs] == ["0\n1\n2\n[]\n"]
    assert executed.cells[2].outputs[0].data["text/plain"] == "'lessons'"
    for rule in (
        rules.format_is_current,
        rules.language_is_declared,
        rules.no_execution_times,
        rules.executed_in_order,
    ):
        assert rule(executed) == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_execute_leaves_the_file_when_a_cell_fails(notebook, tmp_path, monkeypatch):
    for source, message in {"1 / 0": "ZeroDivisionError", "import os\nos._exit(1)": "killed its kernel"}.items():
        notebook.cells = [code("fine", "print(1)"), code("fails", source)]
        path = write(notebook, tmp_path / "98_sample.ipynb")
        before = path.read_bytes()
        monkeypatch.setattr(sys, "argv", ["execute", str(path)])
        with pytest.raises(SystemExit, match=rf"98_sample\.ipynb, cell 2 \(fails\) .*{message}"):
            execute.main()
        assert path.read_bytes() == before


def lesson(notebook, path, *sources):
    notebook.cells = [code(f"cell-{i}", source, "export") for i, source in enumerate(sources)]
    notebook.cells.append(code("other", "print('not exported')"))
    return write(notebook, path)


def stored(picture):
    """A picture as it stands in a notebook, and how many colors it has there."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    again = Image.open(io.BytesIO(base64.b64decode(execute.smaller(base64.b64encode(content.getvalue()).decode()))))
    return again.mode, np.asarray(again.convert("RGB"))


@pytest.mark.parametrize(("color", "mode"), [((7, 7, 7, 255), "L"), ((7, 8, 7, 255), "P")])
def test_a_picture_of_few_colors_is_stored_without_loss(color, mode):
    assert stored(Image.new("RGBA", (20, 10), color))[0] == mode
    assert np.all(stored(Image.new("RGBA", (20, 10), color))[1] == color[:3])


def test_a_picture_of_many_colors_keeps_them_but_for_what_nobody_sees():
    ramp = np.linspace(0, 255, 64)
    pixels = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 128)], axis=2).astype("uint8")
    mode, kept = stored(Image.fromarray(pixels))
    assert mode == "P"
    assert len(np.unique(kept.reshape(-1, 3), axis=0)) <= 256
    assert np.abs(kept.astype(int) - pixels).mean() < 8


def test_an_embedded_page_is_not_stored_but_its_picture(notebook, tmp_path, monkeypatch):
    html = "<div><img alt='the picture'><iframe srcdoc='&lt;p&gt;' title='x'></iframe></div>"
    notebook.cells = [code("page", f'from IPython.display import HTML, display\ndisplay(HTML("""{html}"""))')]
    path = write(notebook, tmp_path / "98_sample.ipynb")
    monkeypatch.setattr(sys, "argv", ["execute", str(path)])
    execute.main()
    assert nbformat.read(path, 4).cells[0].outputs[0].data["text/html"] == "<div><img alt='the picture'></div>"


def test_lessons_module_has_groups_and_imports(notebook, tmp_path):
    first = lesson(notebook, tmp_path / "01_a.ipynb", "def floor(x):\n    return np.floor(x)", "EPS = 1e-7")
    second = lesson(notebook, tmp_path / "02_b.ipynb", "class Twice(layers.Layer):\n    def call(self, x): return 2*x")
    module = export_lessons.lessons_module([first, second])
    assert "# From notebooks/01_a.ipynb" in module
    assert "ops" not in module
    assert "not exported" not in module
    assert module == ruff_format(module, "course_utils/lessons.py")
    assert module.index("course_utils.backend") < module.index("from keras import layers")
    scope: dict = {}
    exec(module, scope)
    assert (scope["floor"](1.5), scope["EPS"], scope["Twice"]().call(3)) == (1, 1e-7, 6)
    nothing = export_lessons.lessons_module([lesson(notebook, tmp_path / "01_a.ipynb")])
    exec(nothing, {})
    assert "import" not in nothing.split('"""')[2]


def test_exported_cells_only_define_and_only_once(notebook, tmp_path):
    first = lesson(notebook, tmp_path / "01_a.ipynb", "def same(x):\n    return x")
    second = lesson(notebook, tmp_path / "02_b.ipynb", "same = 1")
    with pytest.raises(export_lessons.ExportError, match=r"same is defined in 01_a\.ipynb and again in 02_b\.ipynb"):
        export_lessons.lessons_module([first, second])
    with pytest.raises(export_lessons.ExportError, match=r"print\(x\)"):
        export_lessons.lessons_module([lesson(notebook, tmp_path / "03_c.ipynb", "x = 1\nprint(x)")])


def test_check_finds_a_stale_module(notebook, tmp_path, monkeypatch):
    path = lesson(notebook, tmp_path / "01_a.ipynb", "x = 1")
    monkeypatch.setattr(export_lessons, "LESSONS_FILE", tmp_path / "lessons.py")
    monkeypatch.setattr(export_lessons, "notebook_paths", lambda: [path])
    monkeypatch.setattr(sys, "argv", ["export_lessons"])
    export_lessons.main()
    monkeypatch.setattr(sys, "argv", ["export_lessons", "--check"])
    export_lessons.main()
    lesson(notebook, path, "x = 2")
    with pytest.raises(SystemExit, match="stale"):
        export_lessons.main()


REFERENCE = {"lessons": {"98": {"seconds": 51.2}}, "results": {"98.one": {"mean": 0.94312, "std": 0.00312}}}


@pytest.fixture
def repository(notebook, tmp_path):
    """A folder with one notebook, its bootstrap still visible, and all that `stamp` reads."""
    next(cell for cell in notebook.cells if cell.id == "bootstrap").metadata = {"tags": ["bootstrap"]}
    write(notebook, tmp_path / "notebooks" / "98_sample.ipynb")
    urls = f'[project]\nversion = "{VERSION}"\n[project.urls]\nRepository = "{ADDRESS}"\n'
    (tmp_path / "pyproject.toml").write_text(urls)
    (tmp_path / "README.md").write_text(f"before\n{stamp.BEGIN}\nold\n{stamp.END}\nafter\n")
    replace_file(tmp_path / "course_utils" / "reference.json", json.dumps(REFERENCE))
    return tmp_path


def test_stamp_writes_address_version_and_table(repository):
    fresh = stamp.stamped_files(repository)
    notebook = nbformat.reads(fresh[repository / "notebooks" / "98_sample.ipynb"], as_version=4)
    badge, bootstrap = (next(c for c in notebook.cells if has_tag(c, tag)) for tag in ("badge", "bootstrap"))
    assert "research.google.com/github/someone/autoencoder-course/blob/v1.2.0/notebooks/98_sample.ipynb" in badge.source
    assert f'"git+{ADDRESS}@v1.2.0"' in bootstrap.source
    assert rules.starts_with_setup(notebook) == []
    row = "| [98 · A sample & nothing more](notebooks/98_sample.ipynb) | show what a notebook needs | 55 s | one is 0.94 |"
    lines = fresh[repository / "README.md"].splitlines()
    assert (lines[:2], lines[4:]) == (["before", stamp.BEGIN], [row, stamp.END, "after"])
    for path, stamped in fresh.items():
        replace_file(path, stamped)
    assert stamp.stamped_files(repository) == fresh, "a second stamp changes nothing"


def test_stamp_needs_its_places_and_waits_for_the_measurement(repository, notebook):
    path = repository / "notebooks" / "98_sample.ipynb"
    assert stamp.table_row(path, {"lessons": {}, "results": {}}).count("not measured yet") == 2
    with pytest.raises(stamp.StampError, match=r"98_sample\.ipynb: its headline names '98\.one'"):
        stamp.table_row(path, {"lessons": REFERENCE["lessons"], "results": {}})
    (repository / "README.md").write_text("no table")
    with pytest.raises(stamp.StampError, match=r"README\.md"):
        stamp.stamped_files(repository)
    notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, "bootstrap")]
    with pytest.raises(stamp.StampError, match="0 cells with the tag 'bootstrap'"):
        stamp.stamped_notebook(write(notebook, path), ADDRESS, VERSION)


def test_a_page_that_would_load_something_is_refused():
    for html in (
        '<script>import("https://cdn.example.org/x.mjs")</script>',
        '<link rel="stylesheet" href="//cdn.example.org/x.css">',
        "<style>@import 'https://example.org/x.css'; </style>",
        '<p style="background: url(https://example.org/x.png)">x</p>',
        '<img src="images/x.svg">',
    ):
        with pytest.raises(PageError, match="would load"):
            require_offline(html)


def test_formulas_are_converted_or_named():
    aligned = r"\begin{aligned} \mathcal{L} &= \mathbb{E}_q \\ &= \frac{\boldsymbol{\mu}}{2} \end{aligned}"
    mathml = BeautifulSoup(to_mathml(aligned, block=True), features="html.parser")
    assert len(mathml.find_all("mtr")) == 2
    assert {"𝔼", "𝝁"} <= {letter.get_text() for letter in mathml.find_all("mi")}
    for formula in (r"\unknown{x}", "a_", r"\frac{1}", r"a & b", r"\begin{nothing} x \end{nothing}"):
        with pytest.raises(FormulaError) as error:
            to_mathml(formula, block=False)
        assert repr(formula) in str(error.value)
