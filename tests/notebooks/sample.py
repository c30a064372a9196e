"""A small notebook that keeps all rules of `notebook_rules.py`; tests change copies of it."""

import base64

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.shared.notebook_files import KERNELSPEC, LANGUAGE_INFO

ALT = "A line that rises from one to two."
PNG = base64.b64encode(b"not really a picture").decode()
QUESTION = "<details>\n<summary>Why?</summary>\n\nBecause $x = \\hat{x}$.\n\n</details>"
CAPTION = "Follow the line from left to right."
STUB = 'def double(x):\n    raise NotImplementedError\n\n\nexercise("98.double", double)'
SOLUTION = (
    "<details>\n<summary>Solution</summary>\n\n```python\ndef double(x):\n    return 2 * x\n```\n\nTempting:\n\n"
    "```python\ndef double(x):\n    return x * x\n```\n\n</details>"
)

PREDICTION_STUB = 'prediction = None  # "rises" or "falls"\n\nexercise("98.predict", prediction)'
PREDICTION_SOLUTION = (
    '<details>\n<summary>Answer</summary>\n\n```python\nprediction = "rises"\n```\n\nTempting:\n\n'
    '```python\nprediction = "falls"\n```\n\n</details>'
)


def markdown(name: str, source: str, *tags: str) -> NotebookNode:
    return new_markdown_cell(source, id=name, metadata={"tags": list(tags)} if tags else {})


def code(name: str, source: str, *tags: str, outputs: tuple = ()) -> NotebookNode:
    return new_code_cell(source, id=name, metadata={"tags": list(tags)} if tags else {}, outputs=list(outputs))


def figure(alt: str = ALT) -> NotebookNode:
    return new_output("display_data", data={"image/png": PNG}, metadata={"image/png": {"alt": alt}})


def drawing(alt: str = ALT) -> NotebookNode:
    return new_output("display_data", data={"text/html": f'<img alt="{alt}" src="data:image/svg+xml;base64,{PNG}">'})


def caption() -> NotebookNode:
    return new_output("display_data", data={"text/markdown": f"*{CAPTION}*", "text/plain": CAPTION})


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", text=text, name=name)


def sample_notebook() -> NotebookNode:
    """Executed, with two figures and a drawing, four questions and four exercises."""
    cells = [
        markdown("title", "# 98 · A sample & nothing more\n\nNotebooks are easily broken."),
        markdown("badge", "[Open in Colab](https://example.org)", "badge"),
        code("bootstrap", "pass", "bootstrap"),
        code("opening", "print(2)", "hide-input", outputs=(drawing(), caption())),
        markdown("question", "**What does a notebook need?**"),
        markdown("learn", "## What you will learn\n\n- what a notebook needs"),
        code("setup", 'from course_utils.devices import setup\n\nrng = setup(lesson="98")', "setup"),
        code("imports", "from course_utils.checks import checkpoint", "imports"),
        markdown("warmup", f"## Warm-up questions\n\n{QUESTION}\n\n{QUESTION}"),
        *(markdown(f"story-{i}", f"## What happens in section {i}\n\n$$z = f(x)$$") for i in range(3)),
        code("definition", "def identity(x):\n    return x", "export"),
        code("figure", "print(identity(1))", outputs=(stream("1\n"), figure(), drawing(), caption(), caption())),
        code("checkpoint", 'checkpoint("98.one", identity(1), if_not="Is one still one?")', "checkpoint"),
        markdown("wrong", "## What goes wrong"),
        markdown("exercises", "## Exercises"),
        code("exercise-double", STUB, "exercise"),
        markdown("solution-double", SOLUTION, "solution"),
        code("exercise-predict", PREDICTION_STUB, "exercise"),
        markdown("solution-predict", PREDICTION_SOLUTION, "solution"),
        markdown("open-1", QUESTION, "open-answer"),
        markdown("open-2", QUESTION, "open-answer"),
        markdown("questions", f"## Questions\n\n{QUESTION}\n\n{QUESTION}"),
        markdown("answer", "## The answer"),
        markdown("next", "## Where next"),
    ]
    for cell in (cells[2], cells[3]):
        cell.metadata.update(jupyter={"source_hidden": True}, cellView="form")
    metadata = {
        "kernelspec": dict(KERNELSPEC),
        "language_info": dict(LANGUAGE_INFO),
        "course": {"idea": "show what a notebook needs", "headline": "one is {98.one:.2f}"},
    }
    notebook = new_notebook(cells=cells, metadata=metadata)
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    return notebook
