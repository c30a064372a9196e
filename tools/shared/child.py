"""How a child process gives its results to the program that started it."""

import json

_MARK = "result: "


def send_result(result: object) -> None:
    """Print a result, anything that JSON can hold, as one line that `read_results` finds among whatever else is printed."""
    print(_MARK + json.dumps(result), flush=True)  # JSON of ASCII alone can be printed in every locale


def read_results(output: str) -> list:
    """The results in a child's output, in their order."""
    return [json.loads(line.removeprefix(_MARK)) for line in output.splitlines() if line.startswith(_MARK)]
