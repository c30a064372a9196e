"""Sphinx's settings for the course's web pages."""

from tools.author.stamp import project as project_facts

facts = project_facts()

project = "Autoencoders"
html_title = "Autoencoders"
copyright = "the course's authors; text and figures under CC BY 4.0, code under MIT"
version = release = facts["version"]
language = "en"

extensions = ["myst_nb", "tools.site.extension"]

# The stored outputs are shown; nothing is executed.
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_markdown_format = "myst"  # captions may have formulas
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
suppress_warnings = ["myst.header"]  # a lesson may begin with a heading of the third level

add_module_names = False
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_search_summary = False  # a page opened from disk must not fetch other pages
html_context = {"default_mode": "auto"}
html_sidebars: dict[str, list[str]] = {page: [] for page in ("index", "glossary", "search")}  # nothing is below them
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
}
