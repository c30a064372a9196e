"""The pages on the helper package, from its docstrings, which are Markdown with Google's sections.

griffe reads the source: Sphinx's autodoc would import it, TensorFlow included, and take the docstrings for
reStructuredText.
"""

import logging

import griffe

from tools.shared.notebook_files import ROOT

# A parameter without annotation is none of the site's business.
logging.getLogger("griffe").setLevel(logging.ERROR)


def pages() -> dict[str, str]:
    """File name → text, one page for each module but commands and the checks of single exercises, and a page of pages."""
    course_utils = griffe.load("course_utils", search_paths=[ROOT], docstring_parser="google", allow_inspection=False)
    names = [name for name in course_utils.modules if not name.startswith("__") and name != "exercises"]
    modules = [course_utils[name] for name in sorted([*names, "exercises.registry"])]
    listed = "\n".join(["```{toctree}", *(module.path for module in modules), "```"])
    index = f"# The package course_utils\n\n{docstring(course_utils)}\n\n{listed}\n"
    return {"api/index.md": index} | {f"api/{module.path}.md": module_page(module) for module in modules}


def module_page(module: griffe.Module) -> str:
    parts = [f"# {module.path.partition('.')[2]}", docstring(module), f"```{{py:module}} {module.path}\n```"]
    for member in public(module):
        parts.append(class_directive(member) if member.is_class else function_directive("py:function", member))
    return "\n\n".join(parts) + "\n"


def public(parent: griffe.Module | griffe.Class) -> list:
    """The functions and classes that are defined here for others, in the order of the source."""
    members = [m for m in parent.members.values() if not m.is_alias and (m.is_function or m.is_class)]
    return sorted((m for m in members if not m.name.startswith("_")), key=lambda member: member.lineno)


def class_directive(cls: griffe.Class) -> str:
    signature = cls["__init__"].signature(name=cls.name) if "__init__" in cls.members else cls.name
    bases = ", ".join(f"`{base}`" for base in cls.bases)
    methods = [function_directive("py:method", method) for method in public(cls) if method.docstring]
    parts = [without_self(signature), f"Bases: {bases}" if bases else "", docstring(cls), *methods]
    return "::::{py:class} " + "\n\n".join(part for part in parts if part) + "\n::::"


def function_directive(directive: str, function: griffe.Function) -> str:
    return f":::{{{directive}}} {without_self(function.signature())}\n\n{docstring(function)}\n:::"


def without_self(signature: str) -> str:
    return signature.replace("(self, ", "(").replace("(self)", "()")


def docstring(owner: griffe.Object | griffe.Alias) -> str:
    """A docstring in MyST Markdown, with its sections as a list of fields."""
    sections = owner.docstring.parsed if owner.docstring else []
    return "\n\n".join(section_text(section, owner) for section in sections)


def section_text(section: griffe.DocstringSection, owner: griffe.Object | griffe.Alias) -> str:
    fields = {
        "parameters": "param {0.name}",
        "returns": "returns",
        "yields": "returns",
        "raises": "raises {0.annotation}",
    }
    kind = section.kind.value
    if kind == "text":
        return section.value
    if kind == "admonition":  # what griffe calls a section with a name of its own, such as "Environment"
        return f":{section.title}: {one_line(section.value.description)}"
    if kind not in fields:
        raise ValueError(
            f"The docstring of {owner.path} has {kind}, which the site's tools/site/api.py cannot show yet."
        )
    return "\n".join(f":{fields[kind].format(item)}: {one_line(item.description)}" for item in section.value)


def one_line(text: str) -> str:
    return " ".join(text.split())
