"""What the instructor's page says about each section of a lesson: how many minutes it takes, and what to do in them."""

import re
from dataclasses import dataclass

from tools.shared.notebook_files import ROOT

INSTRUCTOR_PAGE = ROOT / "deploy" / "INSTRUCTOR.md"


@dataclass(frozen=True)
class Step:
    """A section of a lesson in class; `short_minutes` is its time in the short plan."""

    minutes: int = 3
    short_minutes: int = 0
    advice: str = ""


def class_plan(lesson: str, page: str | None = None) -> dict[str, Step]:
    """Section's title → step, from the rows `| title | minutes | minutes in short | advice |` under the lesson's heading."""
    if page is None:
        page = INSTRUCTOR_PAGE.read_text(encoding="utf-8")
    chapter = re.search(rf"^## {lesson} · .*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d*|–) \| (.*?) \|$", chapter[0], re.MULTILINE) if chapter else []
    return {
        title: Step(int(minutes), int(short) if short.isdigit() else 0, advice)
        for title, minutes, short, advice in rows
    }
