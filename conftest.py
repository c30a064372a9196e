"""Settings of all tests and of the notebooks that nbval runs, also when only one of them is run."""

import os

# What the notebooks see: a result outside its band is an error, and nothing else differs from what a student gets.
for variable in [name for name in os.environ if name.startswith("COURSE_")]:
    del os.environ[variable]
os.environ["COURSE_STRICT"] = "1"


def pytest_collection_modifyitems(items):
    for item in items:
        # nbval waits 5 s for the outputs of a finished cell, fixed in its code; a busy machine needs longer.
        if hasattr(item, "output_timeout"):
            item.output_timeout = 120
