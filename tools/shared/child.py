"""What a child process inherits from the program that started it, and how it gives back its results."""

import json
import os

_MARK = "result: "


def clean_environment(**variables: str) -> dict[str, str]:
    """The variables of this process without the course's own and what its helper has set for TensorFlow, and `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COURSE_", "TF_CP"))}
    return kept | variables


def send_result(result: object) -> None:
    """Print a result, anything that JSON can hold, as one line that `read_results` finds among whatever else is printed."""
    print(_MARK + json.dumps(result), flush=True)  # JSON of ASCII alone can be printed in every locale


def read_results(output: str) -> list:
    """The results in a child's output, in their order."""
    return [json.loads(line.removeprefix(_MARK)) for line in output.splitlines() if line.startswith(_MARK)]
