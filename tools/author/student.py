"""Make notebooks without solutions to hand out, and the answers for the instructor: `make student`.

    python -m tools.author.student

writes `build/student/NN_name.ipynb`, and apart from them, so that the folder can be handed out as it is,
`build/instructor/answers.html` (all solutions) and `build/instructor/exam_bank.html` (all questions with their answers).
"""

import argparse
import copy
import re
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from tools.shared.lesson_parts import FOLDED, Question, Section, questions, sections, sentences, title_of
from tools.shared.mathml import FormulaError
from tools.shared.notebook_files import ROOT, has_tag, notebook_paths, notebook_text, read_notebook, replace_file
from tools.shared.web_pages import PageError, markdown_to_html, require_offline

TEMPLATE_FOLDER = Path(__file__).resolve().parent / "booklet_template"
STUDENT_FOLDER = ROOT / "build" / "student"
INSTRUCTOR_FOLDER = ROOT / "build" / "instructor"

EXERCISES = "Exercises"
# "Solutions are folded below." is not true of these notebooks.
SAYS_FOLDED = re.compile(r"[ \t]*[^.!?\n]*\bfolded\b[^.!?]*[.!?]")


def student_notebook(notebook: NotebookNode) -> NotebookNode:
    """The notebook without its solutions, and without the outputs from which the answer to an exercise can be read.

    The link to Colab goes too: it opens the notebook with the solutions.
    """
    student = copy.deepcopy(notebook)
    kept = [_student_cell(cell, section) for section in sections(student) for cell in section.cells]
    student.cells = [cell for cell in kept if cell is not None]
    return student


def _student_cell(cell: NotebookNode, section: Section) -> NotebookNode | None:
    if has_tag(cell, "solution") or has_tag(cell, "badge"):
        return None
    if section.title != EXERCISES:
        return cell
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
        return cell
    cell.source = SAYS_FOLDED.sub("", FOLDED.sub("", cell.source)).strip()
    return cell if cell.source else None


def answers(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Heading of each exercise and its answer in markdown, in their order."""
    found, heading = [], ""
    for section in sections(notebook):
        for cell in section.cells if section.title == EXERCISES else []:
            headings = re.findall(r"^### (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
            heading = headings[-1] if headings else heading
            if has_tag(cell, "solution") or has_tag(cell, "open-answer"):
                found += [(heading, body.strip()) for _, body in FOLDED.findall(cell.source)]
    return found


def answer_booklet(notebooks: list[NotebookNode]) -> str:
    """All solutions as a web page."""
    lessons = [
        (title_of(notebook), [(heading, markdown_to_html(body)) for heading, body in answers(notebook)])
        for notebook in notebooks
    ]
    return _page("Answers to the exercises", "answers.html.j2", lessons)


def exam_bank(notebooks: list[NotebookNode]) -> str:
    """All questions, each with its answer and with the wrong answers that people give, as a web page."""
    lessons = []
    for notebook in notebooks:
        texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
        lessons.append((title_of(notebook), [_exam_entry(question) for text in texts for question in questions(text)]))
    return _page("Exam bank", "exam_bank.html.j2", lessons)


def _exam_entry(question: Question) -> tuple[int, str, str, list[str]]:
    wrong = question.wrong_answers
    right = [_without(wrong, block) for block in re.split(r"\n\s*\n", question.answer)]
    texts = [markdown_to_html(sentence) for sentence in wrong]
    return question.number, markdown_to_html(question.question), markdown_to_html("\n\n".join(right)), texts


def _without(wrong: list[str], block: str) -> str:
    """A block of an answer without the wrong answers in it."""
    said = sentences(block)
    return " ".join(s for s in said if s not in wrong) if set(said) & set(wrong) else block


def _page(title: str, template: str, lessons: list) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATE_FOLDER), autoescape=False, trim_blocks=True)
    code_css = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    html = environment.get_template(template).render(title=title, lessons=lessons, code_css=code_css)
    require_offline(html)
    return html


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    paths = notebook_paths()
    notebooks = [read_notebook(path) for path in paths]
    try:
        pages = {"answers.html": answer_booklet(notebooks), "exam_bank.html": exam_bank(notebooks)}
    except (FormulaError, PageError) as error:
        sys.exit(str(error))
    for path, notebook in zip(paths, notebooks, strict=True):
        replace_file(STUDENT_FOLDER / path.name, notebook_text(student_notebook(notebook)))
    for name, html in pages.items():
        replace_file(INSTRUCTOR_FOLDER / name, html)
    print(f"{STUDENT_FOLDER.relative_to(ROOT)}: {len(paths)} notebooks to hand out")
    print(f"{INSTRUCTOR_FOLDER.relative_to(ROOT)}: {', '.join(pages)}; not for students")


if __name__ == "__main__":
    main()
