"""Start JupyterLab on lesson 01 and print the address to open: `make lab`, or `python -m tools.lab`.

JupyterLab's own command refuses to run as root, hides the address among its messages, and asks about news at its first
start. This program changes that, and keeps what protects the student: the server listens on this machine only, and
nobody enters without the token in the address.
"""

import argparse
import contextlib
import importlib.util
import os
import secrets
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
FIRST_LESSON = "notebooks/01_autoencoder.ipynb"

# What Jupyter, IPython and Matplotlib write to in the home folder.
FOLDER_VARIABLES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")

READ_ONLY = f"""
The folder {NOTEBOOKS} cannot be written. The lessons run, but your changes cannot be saved.
To keep them, copy the whole course to a folder of your own and run `make lab` there."""

OPEN_TO_ALL = """
Whoever has this address can run programs on this machine, and the connection is not encrypted.
To open it from another machine, put this machine's name or address where it says 127.0.0.1."""


def port_number(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 65535, got {text}")
    return int(text)


def url_of(ip: IPv4Address | IPv6Address, port: int, path: str, token: str) -> str:
    """What to open in a browser on this machine."""
    host = "127.0.0.1" if ip.is_unspecified else f"[{ip}]" if ip.version == 6 else str(ip)
    return f"http://{host}:{port}{path}?token={token}"


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, which need not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    return os.access(existing, os.W_OK | os.X_OK)


@contextlib.contextmanager
def writable_settings() -> Iterator[None]:
    """Where the home folder cannot be written, let Jupyter keep its settings in a folder that is removed at the end."""
    from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

    if all(is_writable(Path(path)) for path in (jupyter_config_dir(), jupyter_data_dir(), jupyter_runtime_dir())):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="autoencoders-") as folder:
        os.environ.update({variable: os.path.join(folder, variable.lower()) for variable in FOLDER_VARIABLES})
        yield


def has_browser() -> bool:
    """Whether a window can be opened here; a browser inside this terminal would not do."""
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def announce(ip: IPv4Address | IPv6Address, url: str) -> None:
    """Open the address where there is a browser, and print it in any case, last of all."""
    if not os.access(NOTEBOOKS, os.W_OK):
        print(READ_ONLY)
    if not ip.is_loopback:
        print(OPEN_TO_ALL)
    opened = has_browser() and webbrowser.open(url)
    print("\nJupyterLab is running. Leave this terminal open; pressing Ctrl-C twice in it ends JupyterLab.")
    print("Your browser opens lesson 01; otherwise open this address:" if opened else "Open this address in a browser:")
    print(f"\n    {url}\n", flush=True)


def serve(ip: IPv4Address | IPv6Address, port: int) -> None:
    """Run JupyterLab until it is stopped. If `port` is taken, the server goes on to another."""
    from jupyterlab.labapp import LabApp

    # The lessons use the helper of this folder, also where the environment was made for another copy of the course.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    token = secrets.token_hex(16)
    settings = {
        "Application.log_level": "ERROR",
        "ServerApp.ip": ip,
        "ServerApp.port": port,
        "ServerApp.allow_root": True,
        "ServerApp.allow_remote_access": not ip.is_loopback,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": ROOT,
        "IdentityProvider.token": token,
        "LabApp.default_url": f"/lab/tree/{FIRST_LESSON}",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "ServerApp.tornado_settings": {"page_config_data": {"buildCheck": False, "buildAvailable": False}},
    }
    try:
        server = LabApp.initialize_server([f"--{name}={value}" for name, value in settings.items()])
    except OSError as error:
        sys.exit(f"JupyterLab cannot listen on {ip}, port {port}: {error}.")
    server.io_loop.add_callback(announce, ip, url_of(ip, server.port, server.default_url, token))
    server.start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.lab", description="Start JupyterLab on lesson 01.")
    parser.add_argument("--ip", type=ip_address, default="127.0.0.1", help="where to listen; 0.0.0.0: on all networks")
    parser.add_argument("--port", type=port_number, default=8888, help="1 to 65535; if it is taken, another is used")
    arguments = parser.parse_args()
    if importlib.util.find_spec("jupyterlab") is None:
        sys.exit("JupyterLab is not installed: run `make lab`, or `python -m pip install -r requirements.txt`.")
    print("JupyterLab is starting, which takes a few seconds …", flush=True)
    with writable_settings():
        serve(arguments.ip, arguments.port)


if __name__ == "__main__":
    main()
