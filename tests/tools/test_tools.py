"""The maintainers' programs, on small notebooks in a temporary folder."""

import json
import math
import sys

from tools.author import execute
from tools.author import export_html
from tools.author import export_lessons
from tools.prove import faults
import nbformat
import numpy as np
import pytest
from tools.author import reference
from tools.author import stamp
from bs4 import BeautifulSoup
from tools.shared.notebook_files import (
    ROOT,
    has_tag,
    lesson_of,
    notebook_paths,
    notebook_text,
    read_notebook,
    replace_file,
    ruff_format,
)
from tests.notebooks.notebook_rules import RULES
from tests.notebooks.sample import ALT, code, markdown

ADDRESS = "https://github.com/someone/autoencoder-course"


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# notebook_files
# ---------------------------------------------------------------------------------------------------------------------


def test_notebook_text_is_formatted_and_complete(notebook):
    notebook.cells[2].source = "x  =  'é'"
    text = notebook_text(notebook)
    assert '"x = \\"é\\""' in text
    assert text.endswith("}\n")
    assert nbformat.reads(text, as_version=4).cells[2].source == 'x = "é"'


def test_ruff_names_the_file_that_it_cannot_format():
    with pytest.raises(ValueError, match=r"broken\.py"):
        ruff_format("def f(:", "broken.py")


def test_replace_file_keeps_the_old_content_when_writing_fails(tmp_path):
    path = tmp_path / "file.txt"
    replace_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "new \ud800")
    assert path.read_text() == "old"


# ---------------------------------------------------------------------------------------------------------------------
# execute
# ---------------------------------------------------------------------------------------------------------------------


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
    assert 0 < run.seconds < 60
    assert 20 < run.peak_memory_mb < 20_000
    executed = read_notebook(path)
    assert [cell.id for cell in executed.cells] == ["title", "pieces", "folder"]
    assert [output.text for output in executed.cells[1].outputs] == ["0\n1\n2\n[]\n"]
    assert executed.cells[2].outputs[0].data["text/plain"] == "'lessons'"
    of_files = ("format", "language", "cell_ids", "no_", "executed")
    assert [rule(executed) for rule in RULES if rule.__name__.startswith(of_files)] == [[]] * 10
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("source", "message"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("import os\nos._exit(1)", "killed its kernel")],
)
def test_execute_leaves_the_file_when_a_cell_fails(notebook, tmp_path, monkeypatch, capsys, source, message):
    notebook.cells = [code("fine", "print(1)"), code("fails", source)]
    path = write(notebook, tmp_path / "98_sample.ipynb")
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["execute.py", str(path)])
    with pytest.raises(SystemExit) as stop:
        execute.main()
    assert "98_sample.ipynb, cell 2 (fails)" in stop.value.code
    assert message in stop.value.code
    assert "\x1b" not in stop.value.code
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# ---------------------------------------------------------------------------------------------------------------------
# export_lessons
# ---------------------------------------------------------------------------------------------------------------------


def lesson(notebook, path, *sources):
    notebook.cells = [code(f"cell-{i}", source, "export") for i, source in enumerate(sources)]
    notebook.cells.append(code("other", "print('not exported')"))
    return write(notebook, path)


def test_lessons_module_has_groups_and_imports(notebook, tmp_path):
    first = lesson(notebook, tmp_path / "01_a.ipynb", "def floor(x):\n    return np.floor(x)", "EPS = 1e-7")
    second = lesson(notebook, tmp_path / "02_b.ipynb", "class Twice(layers.Layer):\n    def call(self, x): return 2*x")
    module = export_lessons.lessons_module([first, second])
    assert "01_a.ipynb, 02_b.ipynb" in module
    assert "# From notebooks/01_a.ipynb" in module
    assert "import numpy as np\n" in module
    assert "ops" not in module
    assert "not exported" not in module
    assert module == ruff_format(module, "course_utils/lessons.py")
    assert module.index("course_utils.backend") < module.index("from keras import layers")
    scope: dict = {}
    exec(module, scope)
    assert (scope["floor"](1.5), scope["EPS"], scope["Twice"]().call(3)) == (1, 1e-7, 6)


def test_lessons_module_without_exports_is_valid(notebook, tmp_path):
    module = export_lessons.lessons_module([lesson(notebook, tmp_path / "01_a.ipynb")])
    exec(module, {})
    assert "import" not in module.split('"""')[2]


def test_a_name_defined_twice_names_both_notebooks(notebook, tmp_path):
    first = lesson(notebook, tmp_path / "01_a.ipynb", "def same(x):\n    return x")
    second = lesson(notebook, tmp_path / "02_b.ipynb", "same = 1")
    with pytest.raises(export_lessons.ExportError, match=r"same is defined in 01_a\.ipynb and again in 02_b\.ipynb"):
        export_lessons.lessons_module([first, second])


def test_exported_cells_only_define(notebook, tmp_path):
    path = lesson(notebook, tmp_path / "01_a.ipynb", "x = 1\nprint(x)")
    with pytest.raises(export_lessons.ExportError, match=r"print\(x\)"):
        export_lessons.lessons_module([path])


def test_check_finds_a_stale_module(notebook, tmp_path, monkeypatch):
    path = lesson(notebook, tmp_path / "01_a.ipynb", "x = 1")
    monkeypatch.setattr(export_lessons, "LESSONS_FILE", tmp_path / "lessons.py")
    monkeypatch.setattr(export_lessons, "notebook_paths", lambda: [path])
    monkeypatch.setattr(sys, "argv", ["export_lessons.py"])
    export_lessons.main()
    monkeypatch.setattr(sys, "argv", ["export_lessons.py", "--check"])
    export_lessons.main()
    lesson(notebook, path, "x = 2")
    with pytest.raises(SystemExit) as stop:
        export_lessons.main()
    assert "stale" in stop.value.code


# ---------------------------------------------------------------------------------------------------------------------
# stamp
# ---------------------------------------------------------------------------------------------------------------------

REFERENCE = {
    "lessons": {"98": {"seconds": 51.2}},
    "results": {"98.one": {"mean": 0.94312, "std": 0.00312}},
}


@pytest.fixture
def repository(notebook, tmp_path):
    """A folder with one notebook and all that `stamp` reads."""
    write(notebook, tmp_path / "notebooks" / "98_sample.ipynb")
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{ADDRESS}"\n')
    (tmp_path / "README.md").write_text(f"before\n{stamp.BEGIN}\nold\n{stamp.END}\nafter\n")
    (tmp_path / "course_utils").mkdir()
    (tmp_path / "course_utils" / "reference.json").write_text(json.dumps(REFERENCE))
    return tmp_path


def test_stamp_writes_address_and_table(repository):
    fresh = stamp.stamped_files(repository)
    text = fresh[repository / "notebooks" / "98_sample.ipynb"]
    notebook = nbformat.reads(text, as_version=4)
    badge, bootstrap = (
        next(cell.source for cell in notebook.cells if has_tag(cell, tag)) for tag in ("badge", "bootstrap")
    )
    assert "colab.research.google.com/github/someone/autoencoder-course/blob/main/notebooks/98_sample.ipynb" in badge
    assert f"git+{ADDRESS}" in bootstrap
    assert fresh[repository / "README.md"].splitlines() == [
        "before",
        stamp.BEGIN,
        "| lesson | idea | time, two CPU cores | headline result |",
        "|---|---|---|---|",
        "| [98 · A sample & nothing more](notebooks/98_sample.ipynb) | show what a notebook needs | 55 s | "
        "one is 0.94 |",
        stamp.END,
        "after",
    ]
    for path, stamped in fresh.items():
        replace_file(path, stamped)
    assert stamp.stamped_files(repository) == fresh, "a second stamp changes nothing"


def test_stamp_waits_for_the_measurement_and_refuses_unknown_names(repository):
    path = repository / "notebooks" / "98_sample.ipynb"
    assert stamp.table_row(path, {"lessons": {}, "results": {}}).count("not measured yet") == 2
    with pytest.raises(stamp.StampError, match=r"98_sample\.ipynb: its headline names '98\.one'"):
        stamp.table_row(path, {"lessons": REFERENCE["lessons"], "results": {}})


def test_stamp_needs_its_places(repository, notebook):
    (repository / "README.md").write_text("no table")
    with pytest.raises(stamp.StampError, match=r"README\.md"):
        stamp.stamped_files(repository)
    notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, "bootstrap")]
    path = write(notebook, repository / "notebooks" / "98_sample.ipynb")
    with pytest.raises(stamp.StampError, match="0 cells with the tag 'bootstrap'"):
        stamp.stamped_notebook(path, ADDRESS)


@pytest.mark.parametrize(
    ("mean", "std", "format_spec", "expected"),
    [
        (0.94312, 0.00312, "", "0.943 ± 0.003"),
        (0.94312, 0.00096, "", "0.943 ± 0.001"),
        (28.31, 1.73, "", "28 ± 2"),
        (1234.5, 86.0, "", "1234 ± 86"),
        (50992, 0, "", "5.099e+04"),
        (50992, 0, ",.0f", "50,992"),
        (0.94312, 0.00312, ".4f", "0.9431 ± 0.0031"),
        (0.94312, 0.00012, ".2f", "0.94"),
        (0.971, 0.002, ".1%", "97.1% ± 0.2%"),
    ],
)
def test_mean_and_std(mean, std, format_spec, expected):
    assert stamp.mean_and_std(mean, std, format_spec) == expected


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "/x" * 60, "https://github.com/PLACEHOLDER/course"])
def test_bootstrap_is_short_formatted_and_silent_where_installed(address, capsys):
    source = stamp.bootstrap_cell(address)
    assert len(source.splitlines()) <= 12
    assert ruff_format(source + "\n", "notebooks/cell.py") == source + "\n"
    exec(source, {})
    assert capsys.readouterr() == ("", "")


def test_bootstrap_installs_without_dependencies_and_explains_a_failure(monkeypatch):
    import importlib.util
    import subprocess
    from types import SimpleNamespace

    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        subprocess, "run", lambda command: commands.append(command) or SimpleNamespace(returncode=len(commands) - 1)
    )
    exec(stamp.bootstrap_cell(ADDRESS), {})
    assert commands == [[sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"git+{ADDRESS}"]]
    with pytest.raises(RuntimeError, match="could not be installed"):
        exec(stamp.bootstrap_cell(ADDRESS), {})
    with pytest.raises(RuntimeError, match="not published yet"):
        exec(stamp.bootstrap_cell("https://github.com/PLACEHOLDER/course"), {})
    assert len(commands) == 2, "nothing is fetched from a placeholder"


# ---------------------------------------------------------------------------------------------------------------------
# reference
# ---------------------------------------------------------------------------------------------------------------------


def test_band_by_hand():
    # Mean 3, s = √2.5, and with four degrees of freedom Student's distribution has a closed form.
    entry = reference.band([1.0, 2.0, 3.0, 4.0, 5.0])
    assert entry["mean"] == 3
    assert entry["std"] == pytest.approx(math.sqrt(2.5), rel=1e-5)
    assert entry["high"] - 3 == pytest.approx(3 - entry["low"], rel=1e-5)
    t = (entry["high"] - 3) / (math.sqrt(2.5) * math.sqrt(1 + 1 / 5))
    u = 1 + t**2 / 4
    assert 1 / 2 + 3 / 8 * t / math.sqrt(u) * (1 - t**2 / (12 * u)) == pytest.approx(0.99995, abs=1e-8)
    assert (entry["seeds"], entry["values"]) == (5, [1, 2, 3, 4, 5])


def test_band_covers_a_further_run(monkeypatch):
    # At 99.99 % one would have to wait too long for a miss, so the same formula is simulated at 90 %.
    monkeypatch.setattr(reference, "PROBABILITY", 0.9)
    runs = np.random.default_rng(0).normal(10, 2, size=(2000, 9))
    bands = [reference.band(values[:8]) for values in runs.tolist()]
    inside = [b["low"] <= value <= b["high"] for b, value in zip(bands, runs[:, 8], strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 2000))


def test_band_of_a_constant_allows_rounding():
    entry = reference.band([1 / 3] * 8)
    assert entry["std"] == 0
    assert entry["low"] <= (1 - 1e-6) / 3 < (1 + 1e-6) / 3 <= entry["high"]
    assert entry["high"] - entry["low"] < 5e-6
    negative = reference.band([-1 / 3] * 8)
    assert negative["low"] <= -(1 + 1e-6) / 3 < -(1 - 1e-6) / 3 <= negative["high"]


def test_band_refuses_too_few_and_nan():
    with pytest.raises(reference.MeasurementError, match="too few"):
        reference.band([1.0] * 4)
    with pytest.raises(reference.MeasurementError, match="finite"):
        reference.band([1.0] * 7 + [math.nan])


def fake_run(path, seed):
    return {
        "seconds": seed - 41.0,  # the first of the seeds is the fastest
        "peak_memory_mb": 900 + seed,
        "results": {"98.one": 1 + seed / 1000},
        "measured": {"date": "2026-11-20"},
    }


def test_measurement_goes_on_where_it_stopped(notebook, tmp_path, capsys):
    path = write(notebook, tmp_path / "98_sample.ipynb")
    asked = []

    def stops_at_the_fourth(path, seed):
        asked.append(seed)
        if len(asked) == 4:
            raise execute.CellFailed("cell 3 raised ValueError")
        return fake_run(path, seed)

    with pytest.raises(execute.CellFailed):
        reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    runs = reference.measure(path, tmp_path / "runs", stops_at_the_fourth)
    assert asked == [101, 102, 103, 104, 104, 105, 106, 107, 108]
    assert [run["results"]["98.one"] for run in runs] == [1 + seed / 1000 for seed in reference.SEEDS]
    said = capsys.readouterr().out
    assert "3 of 8 runs are there already" in said
    assert "seed 104, run 1 of 5: 63 s, 1,004 MB; about 4 min left" in said


def test_reference_keeps_other_lessons_and_drops_old_results():
    before = {"lessons": {"97": {"seconds": 1}}, "results": {"97.x": {"mean": 1}, "98.renamed": {"mean": 2}}}
    after = reference.updated(before, "98", [fake_run(None, seed) for seed in reference.SEEDS])
    assert after["lessons"]["97"] == {"seconds": 1}
    assert after["lessons"]["98"] == {"seconds": 60.0, "measured": {"date": "2026-11-20"}}
    assert set(after["results"]) == {"97.x", "98.one"}
    assert after["results"]["98.one"]["mean"] == 1.1045
    runs = [fake_run(None, seed) for seed in reference.SEEDS]
    runs[3]["results"] = {"98.two": 2.0}
    with pytest.raises(reference.MeasurementError, match="differ from seed to seed"):
        reference.updated(before, "98", runs)


def test_run_once_records_the_checkpoints(notebook, tmp_path):
    source = (
        "import json\nimport os\n\nwith open(os.environ['COURSE_RECORD'], 'a') as file:\n"
        "    print(json.dumps({'name': NAME, 'value': float(os.environ['COURSE_SEED'])}), file=file)"
    )
    notebook.cells = [code("name", "NAME = '98.seed'"), code("record", source)]
    path = write(notebook, tmp_path / "98_sample.ipynb")
    before = path.read_bytes()
    run = reference.run_once(path, 105)
    assert run["results"] == {"98.seed": 105.0}
    assert {"date", "python", "keras", "tensorflow", "numpy", "cores"} == set(run["measured"])
    assert path.read_bytes() == before
    notebook.cells[0].source = "NAME = '97.seed'"
    with pytest.raises(reference.MeasurementError, match=r"97\.seed"):
        reference.run_once(write(notebook, path), 105)


def test_fingerprint_changes_with_what_changes_results(notebook, tmp_path):
    package = tmp_path / "course_utils"
    package.mkdir()
    modules = {
        "training.py": '"""Trains."""\nRATE = 1  # fast\n',
        "plotting.py": "WIDTH = 8\n",
        "lessons.py": "A = 1\n",
    }
    for name, source in modules.items():
        (package / name).write_text(source)

    def changed(cell_source, name, source):
        """Whether one cell and then one module make a difference to the notebook as it is."""
        notebook.cells[-1] = code("last", cell_source)
        before = reference.fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package)
        (package / name).write_text(source)
        after = reference.fingerprint(tmp_path / "98_sample.ipynb", package)
        (package / name).write_text(modules[name])
        return before != after

    assert changed("x = 1", "training.py", "RATE = 2")
    assert not changed("x = 1", "training.py", '"""Trains models."""\n\nRATE = 1\n')
    assert not changed("x = 1", "plotting.py", "WIDTH = 9")
    assert not changed("x = 1", "lessons.py", "A = 2")
    assert changed("from course_utils.lessons import A", "lessons.py", "A = 2")

    digests = set()
    for source in ("x = 1", "x = 1  # one", "x = 2"):
        notebook.cells[-1] = code("last", source)
        digests.add(reference.fingerprint(write(notebook, tmp_path / "98_sample.ipynb"), package))
    assert len(digests) == 2


# ---------------------------------------------------------------------------------------------------------------------
# export_html
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(notebook, tmp_path):
    table = "| symbol | meaning |\n|---|---|\n| $\\hat{x}$ | output |\n\n[next](02_next.ipynb#part)"
    notebook.cells.append(markdown("table", table))
    html = export_html.to_html(write(notebook, tmp_path / "98_sample.ipynb"))
    return BeautifulSoup(html, features="html.parser")


def test_html_has_alternative_texts_and_mathml(page):
    assert [image["alt"] for image in page.find_all("img")] == [ALT, ALT]
    assert page.find("math", display="block").get_text() == "z=f(x)"
    assert page.table.find("math", display="inline")
    assert page.find("details").find("math")
    assert "$" not in page.main.get_text()


def test_html_is_complete(page):
    assert page.title.get_text() == "98 · A sample & nothing more"
    assert page.html["lang"] == "en"
    assert page.find("h2", string=lambda text: text and "The idea" in text) or "The idea" in page.get_text()
    assert page.find("a", href="02_next.html#part")


def test_html_needs_no_network(page):
    assert page.find_all("script") == []
    assert page.find_all("link") == []
    assert all(image["src"].startswith("data:") for image in page.find_all("img"))


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<script>import("https://cdn.example.org/x.mjs")</script>',
        '<link rel="stylesheet" href="//cdn.example.org/x.css">',
        "<style>@import 'https://example.org/x.css'; </style>",
        '<p style="background: url(https://example.org/x.png)">x</p>',
        '<img src="images/x.svg">',
        '<iframe src="https://example.org"></iframe>',
    ],
)
def test_html_that_would_load_something_is_refused(html):
    with pytest.raises(export_html.HTMLExportError, match="would load"):
        export_html.require_offline(html)


@pytest.mark.parametrize(
    "formula", [r"\unknown{x}", "a_", r"\frac{1}", r"a & b", r"\mathcal 1", r"\begin{nothing} x \end{nothing}"]
)
def test_formula_that_cannot_be_converted_is_named(formula):
    with pytest.raises(export_html.HTMLExportError) as error:
        export_html.to_mathml(formula, "inline")
    assert repr(formula) in str(error.value)


@pytest.mark.parametrize(
    "formula",
    [
        r"\mathcal{L}(x, \hat x) = -\frac1n \sum_{i=1}^{n} x_i \log \hat x_i",
        r"\begin{aligned} a &= b \\ &= c < d \end{aligned}",
        r"\lVert W^\top z + b \rVert_2^2 \in \mathbb{R}^{784}",
        r"\mathbb{E}_{q(z \mid x)}\left[\log p(x \mid z)\right] - \mathrm{KL}\bigl(q \,\|\, p\bigr)",
        r"\begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}",
    ],
)
def test_formulas_of_the_course_are_converted(formula):
    assert export_html.to_mathml(formula, "block").startswith("<math")


@pytest.mark.parametrize(
    ("formula", "letter"),
    [
        (r"\mathcal N", "𝒩"),
        (r"\mathcal L", "ℒ"),
        (r"\mathbb R", "ℝ"),
        (r"\mathbb{E}", "𝔼"),
        (r"\mathbf x", "𝐱"),
        (r"\mathbf{12}", "𝟏𝟐"),
        (r"\boldsymbol{\mu}", "𝝁"),
    ],
)
def test_letters_of_other_alphabets_do_not_need_the_browser(formula, letter):
    mathml = export_html.to_mathml(formula, "inline")
    assert BeautifulSoup(mathml, features="html.parser").get_text() == letter
    assert "mathvariant" not in mathml


# ---------------------------------------------------------------------------------------------------------------------
# faults
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: f"{fault.lesson}: {fault.name}")
def test_every_fault_fits_the_course_as_it_is(fault):
    """Else `make faults` would stop there after a quarter of an hour."""
    if fault.where.endswith(".py"):
        places = [(ROOT / "course_utils" / fault.where).read_text(encoding="utf-8")]
    else:
        (path,) = (path for path in notebook_paths() if lesson_of(path) == fault.lesson)
        places = [cell.source for cell in read_notebook(path).cells if cell.get("id") == fault.where]
    assert [place.count(fault.old) for place in places] == [1]
    assert fault.new != fault.old
