"""`make lab` as a newcomer meets it: a server that really starts, answers over HTTP and runs lesson 01."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest
import websocket
from jupyter_client.jsonutil import json_default
from jupyter_client.session import Session

from tests.processes import environment, needs_clone
from tools.lab import FIRST_LESSON, ROOT, url_of
from tools.shared.working_copy import WorkingCopy

pytestmark = needs_clone

TIMEOUT = 120  # seconds, for an answer and for a cell

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="stops programs and sets permissions as POSIX does")


@pytest.fixture
def course(tmp_path):
    """What a fresh clone holds, in a folder whose name is a trap for careless programs."""
    return WorkingCopy(tmp_path / "自编码器 course (copy)").folder


def obey_permissions():
    """Let a folder's permissions bind root too."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # Linux: PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@contextlib.contextmanager
def running_lab(folder, *arguments, preexec_fn=None, **variables):
    """Start the launcher without a browser; yield the address it prints and all that it printed until then."""
    command = [sys.executable, "-m", "tools.lab", *arguments]
    variables = environment(DISPLAY="", WAYLAND_DISPLAY="", **variables)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "preexec_fn": preexec_fn}
    with subprocess.Popen(command, cwd=folder, env=variables, **options) as server:
        alarm = threading.Timer(5 * TIMEOUT, server.kill)
        alarm.start()
        try:
            printed = ""
            while not (url := re.search(r"http://\S+token=\w+", printed)):
                line = server.stdout.readline()
                assert line, f"it ended and had printed no address:\n{printed}"
                printed += line
            yield url[0], printed
        finally:
            kernels = psutil.Process(server.pid).children(recursive=True)
            server.terminate()
            server.wait(TIMEOUT)
            alarm.cancel()
            _, left = psutil.wait_procs(kernels, timeout=20)
            assert not left, "something is still running after the server has ended"


def ask(url, path, body=None, with_token=True):
    """The text of the server's answer to a GET, or to a POST of `body`."""
    origin, token = re.fullmatch(r"(http://[^/]+)/.*\?token=(\w+)", url).groups()
    headers = {"Authorization": f"token {token}"} if with_token else {}
    request = Request(origin + path, None if body is None else json.dumps(body).encode(), headers)
    with urlopen(request, timeout=TIMEOUT) as answer:
        return answer.read().decode()


def is_reached_as(host, url):
    """Whether the server answers at this host; on Linux, 127.0.0.2 reaches only servers that listen to all addresses."""
    try:
        socket.create_connection((host, urlsplit(url).port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def run_cells(url, *cells):
    """Run cells in a new kernel, as a browser does for lesson 01; return what the last one prints."""
    wish = {"path": FIRST_LESSON, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
    kernel = json.loads(ask(url, "/api/sessions", wish))["kernel"]["id"]
    address = re.sub(r"^http(://[^/]+)/.*\?", rf"ws\1/api/kernels/{kernel}/channels?", url)
    with contextlib.closing(websocket.create_connection(address, timeout=TIMEOUT)) as connection:
        for code in cells:
            request = Session().msg("execute_request", {"code": code, "silent": False, "allow_stdin": False})
            connection.send(json.dumps(request | {"channel": "shell"}, default=json_default))
            printed, reply, busy = "", None, True
            while busy or not reply:
                message = json.loads(connection.recv())
                if message["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                    kind, content = message["msg_type"], message["content"]
                    printed += content["text"] if kind == "stream" else ""
                    reply = content if kind == "execute_reply" else reply
                    busy = busy and content.get("execution_state") != "idle"
            assert reply["status"] == "ok", f"{code}\n{reply}"
    return printed


@on_posix
@pytest.mark.slow
def test_a_newcomer_without_a_browser_gets_an_address_that_serves_lesson_01(course):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with running_lab(course, "--port", str(taken)) as (url, _):
            assert re.match(rf"http://127\.0\.0\.1:(?!{taken}/)", url)
            if sys.platform == "linux":
                assert not is_reached_as("127.0.0.2", url), "other machines can reach the server"
            with pytest.raises(urllib.error.HTTPError, match="403"):
                ask(url, f"/api/contents/{FIRST_LESSON}", with_token=False)
            listed = json.loads(ask(url, "/api/contents/notebooks"))["content"]
            assert all(file["name"].endswith(".ipynb") for file in listed), "students see a file that is no notebook"
            page = ask(url, f"/lab/tree/{FIRST_LESSON}")
            quiet = ('"news": {"disabled": true}', '"buildCheck": false', '"buildAvailable": false')
            assert all(setting in page for setting in quiet), "JupyterLab would ask about news or a build"
            cells = json.loads(ask(url, f"/api/contents/{FIRST_LESSON}"))["content"]["cells"]
            code = [cell for cell in cells if cell["cell_type"] == "code"]
            imports = next(i for i, cell in enumerate(code) if "imports" in cell["metadata"].get("tags", []))
            first_cells = [cell["source"] for cell in code[: imports + 3]]  # a drawing and the data among them
            helper = run_cells(url, *first_cells, "import course_utils; print(course_utils.__file__)")
            assert str(course) in helper, "the lesson does not use the helper of its own folder"


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine on Linux only")
@pytest.mark.slow
def test_other_machines_are_let_in_on_request_with_a_warning_and_a_token(course):
    with running_lab(course, "--ip", "0.0.0.0") as (url, printed):
        assert "not encrypted" in printed
        assert is_reached_as("127.0.0.2", url)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(url, "/api/contents", with_token=False)


@on_posix
@pytest.mark.slow
def test_where_nothing_can_be_written_lessons_run_and_the_launcher_says_so(course, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for folder in (course, course / "notebooks"):
        folder.chmod(0o555)
    places = {"HOME": str(course / "home"), "TMPDIR": str(scratch)}
    with running_lab(course, preexec_fn=obey_permissions, **places) as (url, printed):
        assert "cannot be written" in printed
        assert run_cells(url, "print(6 * 7)") == "42\n"
    assert not list(scratch.iterdir()), "the folder for settings was not removed"


@on_posix
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_says_what_to_do_where_it_cannot_install(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    tmp_path.chmod(0o555)
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60, "preexec_fn": obey_permissions}
    assert "Copy it to a folder of your own" in subprocess.run(["make", "lab"], check=False, **options).stderr


@on_posix
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_alone_shows_first_what_a_newcomer_does_and_what_appears():
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.findall(r"^  make (\S+)", printed, re.MULTILINE)[:3] == ["lab", "check-up", "test"]
    assert printed.index("token=") < printed.index("make check-up")


@pytest.mark.slow
def test_what_cannot_be_served_is_refused_with_a_sentence():
    for option, value in {"--port": "0", "--ip": "192.0.2.1"}.items():  # an address that no machine has
        command = [sys.executable, "-m", "tools.lab", option, value]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode in (1, 2)
        assert value in done.stderr
        assert "Traceback" not in done.stderr


def test_the_address_can_be_opened_on_this_machine():
    for ip, host in {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::1": "[::1]", "10.0.0.7": "10.0.0.7"}.items():
        assert url_of(ip_address(ip), 8888, "/lab", "abc") == f"http://{host}:8888/lab?token=abc"
