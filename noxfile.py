"""The course in other environments than the one it is written in: `make test-backends`, `make test-versions`.

    python -m nox -s backends                      # all lessons on JAX, PyTorch and two devices; an hour or more
    python -m nox -s backends -- --only jax        # the others keep their sections of reports/BACKENDS.md
    python -m nox -s versions                      # all tests with the oldest and the newest packages; about an hour
    python -m nox -s "versions(end='oldest')"

uv installs the packages, which needs the network. On Linux PyTorch comes with libraries for GPUs, several GB; to have
its smaller build for CPUs, name the index of that build in the variable UV_EXTRA_INDEX_URL.
"""

import nox

nox.options.default_venv_backend = "uv"
nox.options.envdir = "build/nox"
nox.options.sessions = []  # all of them take long, so they run by name only

# For the oldest: what Colab has, and the lowest versions that the requirements allow of all other packages.
OPTIONS = {
    "oldest": ["-c", "requirements-oldest.txt"],
    "newest": ["--upgrade"],
}


@nox.session
def backends(session: nox.Session) -> None:
    """Run the lessons, and the unit tests that are about numbers, on JAX, PyTorch and two devices of TensorFlow."""
    session.install("-r", "requirements-dev.txt", "jax", "torch")
    session.run("python", "-m", "tools.prove.backends", *session.posargs)


@nox.session
@nox.parametrize("end", list(OPTIONS))
def versions(session: nox.Session, end: str) -> None:
    """Run all tests with one end of the supported versions."""
    session.install("-r", "requirements-dev.txt", *OPTIONS[end])
    session.run("python", "-m", "tools.prove.versions", end)
