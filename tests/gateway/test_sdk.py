"""The official SDK, unmodified, from the registry, in a virtual environment of its own, against this gateway."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyopenshell.gateway import daemon
from tests.gateway.serving import environ, serving

pytestmark = pytest.mark.e2e

SDK = "openshell==0.1.5"

# Runs under the SDK's interpreter: finds the gateway by its registration files alone, and prints what it saw.
STORY = r"""
import json, sys, time
from openshell import GatewayError, Sandbox, SandboxClient, SandboxError, SandboxTemplateClient, WorkspaceClient

seen = {}
with SandboxClient.from_active_cluster() as client:
    seen["health"] = client.health().status
    slept, sleep = [], time.sleep
    time.sleep = lambda seconds: (slept.append(seconds), sleep(seconds))
    made = client.create(workspace="default", name="sdk-box", labels={"by": "sdk"})
    client.wait_ready("sdk-box", workspace="default")
    seen["polls"] = len(slept)
    seen["made"] = [made.name, made.workspace, made.status.phase, dict(made.labels)]
    seen["got"] = client.get("sdk-box", workspace="default").id == made.id
    for number in range(4):
        client.create(workspace="default", name=f"other-{number}")
    pages = [[ref.name for ref in page.items] for page in client.list(workspace="default", page_size=2)]
    seen["pages"] = pages
    seen["all"] = len(client.list_all(workspace="default"))
    seen["labelled"] = [ref.name for ref in client.list_all(workspace="default", label_selector="by=sdk")]
    seen["everywhere"] = len(client.list_all_for_all_workspaces())
    result = client.exec("sdk-box", ["sh", "-c", "cat; echo err >&2; exit 7"], workspace="default", stdin=b"in")
    seen["exec"] = [result.exit_code, result.stdout, result.stderr]
    chunks = list(client.exec_stream("sdk-box", ["sh", "-c", "echo $K"], workspace="default", env={"K": "v"}))
    seen["stream"] = [chunks[0].stream, chunks[0].data.decode(), chunks[-1].exit_code]
    seen["timeout"] = client.exec("sdk-box", ["sleep", "30"], workspace="default", timeout_seconds=1).exit_code
    seen["python"] = client.exec_python("sdk-box", lambda a, b: print(a + b), workspace="default", args=(40, 2)).stdout
    client.stop("sdk-box", workspace="default")
    client.wait_stopped("sdk-box", workspace="default")
    try:
        client.exec("sdk-box", ["true"], workspace="default")
    except (GatewayError, SandboxError) as error:
        seen["stopped"] = str(getattr(error, "details", lambda: error)())
    client.start("sdk-box", workspace="default")
    client.wait_ready("sdk-box", workspace="default")
    gone = client.delete("sdk-box", workspace="default")
    seen["deleted"] = [int(gone.outcome), gone.sandbox_id == made.id]
    client.wait_deleted("sdk-box", workspace="default")
    seen["absent"] = int(client.delete("sdk-box", workspace="default", allow_missing=True).outcome)
    try:
        client.get("sdk-box", workspace="default")
    except GatewayError as error:
        seen["missing"] = error.code().name
    try:
        client.create(workspace="default", name="NOT A NAME")
    except GatewayError as error:
        seen["violation"] = [error.code().name, error.field_violations[0].field]
    try:
        client.create(workspace="default", name="other-0")
    except GatewayError as error:
        seen["twice"] = [error.code().name, error.details()]
    workspaces = WorkspaceClient.from_sandbox_client(client)
    seen["workspace"] = workspaces.create("team", labels={"a": "b"}).phase
    seen["workspaces"] = [workspace.name for workspace in workspaces.list_all()]
    seen["workspace_gone"] = int(workspaces.delete("team").outcome)
    seen["workspace_got"] = workspaces.get("default").name
    for number in range(3):
        workspaces.create(f"w{number}", labels={"kind": "w"})
    seen["workspace_pages"] = [[one.name for one in page.items] for page in workspaces.list(page_size=2)]
    seen["workspace_labelled"] = len(workspaces.list_all(label_selector="kind=w"))
    client.create(workspace="w0", name="inner")
    try:
        workspaces.delete("w0")
    except GatewayError as error:
        seen["workspace_full"] = [error.code().name, error.details()]
    templates = client.sandbox_templates()
    template = templates.create(
        workspace="default", name="tool.v1", labels={"t": "1"}, memory="2Gi",
        environment={"A": "template", "B": "template"},
    )
    seen["template"] = [template.metadata.name, template.spec.workload.resources.memory]
    for number in range(3):
        templates.create(workspace="w1", name=f"t{number}")
    seen["template_pages"] = [
        [one.metadata.name for one in page.items] for page in templates.list_for_all_workspaces(page_size=3)
    ]
    seen["template_labelled"] = len(templates.list_all(workspace="default", label_selector="t=1"))
    from openshell._proto import openshell_pb2
    made = client.create_from_template(
        workspace="default", name="from-it", workload_template="tool.v1",
        spec=openshell_pb2.SandboxSpec(environment={"B": "mine"}),
    )
    provenance = made.created_from_workload_template
    seen["from_template"] = [provenance.name, provenance.resource_version]
    for kind, call in {
        "image": lambda: templates.create(workspace="default", name="img", image="ubuntu:24.04"),
        "absent": lambda: client.create_from_template(workspace="default", workload_template="nope"),
        "again": lambda: templates.create(workspace="default", name="tool.v1"),
        "got": lambda: templates.get("nope", workspace="default"),
        "token": lambda: client.list_all(workspace="default", page_token="AAAA"),
        "negative": lambda: client.list_all(workspace="default", page_size=-1),
        "selector": lambda: client.list_all(workspace="default", label_selector="a"),
    }.items():
        try:
            call()
        except GatewayError as error:
            info = error.error_info
            seen["error_" + kind] = [error.code().name, info.reason if info else "", len(error.field_violations)]
    seen["template_gone"] = [
        int(templates.delete("tool.v1", workspace="default").outcome),
        int(templates.delete("tool.v1", workspace="default", allow_missing=True).outcome),
    ]
    session = client.create_session(workspace="default", name="session")
    seen["session"] = [session.exec(["echo", "in"]).stdout, session.exec_python(max, args=(1, 2)).stdout]
    seen["session_again"] = client.get_session("session", workspace="default").id == session.id
    seen["session_life"] = [session.stop().status.phase, session.start().status.phase, int(session.delete().outcome)]
    seen["ids"] = len(client.list_ids(workspace="default", page_size=2))
with Sandbox(workspace="default") as sandbox:
    seen["context"] = sandbox.exec(["echo", "hi"]).stdout
try:
    with Sandbox(workspace="default", sandbox="absent"):
        pass
except (GatewayError, SandboxError) as error:
    seen["attach"] = type(error).__name__
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def interpreter() -> Iterator[str]:
    """A fresh virtual environment with the SDK from the registry; cloudpickle goes with it."""
    with tempfile.TemporaryDirectory(prefix="openshell-sdk-") as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=120)
        python = str(Path(directory) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK]
        subprocess.run(install, check=True, timeout=300)
        yield python


@pytest.mark.timeout(500)
async def test_the_official_sdk_works_unmodified(interpreter: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        # Commands of the fake workloads find the SDK's own `python`, as an image with cloudpickle would have it.
        served.driver.path = os.pathsep.join([str(Path(interpreter).parent), os.environ["PATH"]])
        process = await asyncio.create_subprocess_exec(
            interpreter, "-c", STORY, env=environ(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0
    seen = json.loads(output)
    take = functools.partial(seen.pop)
    assert take("health") == 1
    assert take("polls") == 0  # CreateSandbox answers READY: the SDK's one-second poll never happens
    assert take("made") == ["sdk-box", "default", 2, {"by": "sdk"}]
    assert take("got") is True
    assert take("pages") == [["sdk-box", "other-0"], ["other-1", "other-2"], ["other-3"]]
    assert (take("all"), take("everywhere"), take("labelled")) == (5, 5, ["sdk-box"])
    assert take("exec") == [7, "in", "err\n"]
    assert take("stream") == ["stdout", "v\n", 0]
    assert take("timeout") == 124
    assert take("python") == "42\n"
    assert "sandbox is not ready" in take("stopped")
    assert take("deleted") == [1, True]
    assert take("absent") == 3
    assert take("missing") == "NOT_FOUND"
    assert take("violation") == ["INVALID_ARGUMENT", "name"]
    assert take("twice") == ["ALREADY_EXISTS", "sandbox 'other-0' already exists"]
    assert take("workspace") == "WORKSPACE_PHASE_ACTIVE"
    assert take("workspaces") == ["default", "team"]
    assert take("workspace_gone") == 1
    assert take("workspace_got") == "default"
    assert take("workspace_pages") == [["default", "w0"], ["w1", "w2"]]
    assert take("workspace_labelled") == 3
    assert take("workspace_full") == ["FAILED_PRECONDITION", "workspace 'w0' still contains resources: sandbox"]
    assert take("template") == ["tool.v1", "2Gi"]
    assert take("template_pages") == [["tool.v1", "t0", "t1"], ["t2"]]
    assert take("template_labelled") == 1
    assert take("from_template") == ["tool.v1", "1"]
    assert take("error_image") == ["FAILED_PRECONDITION", "NOT_SUPPORTED", 1]
    assert take("error_absent") == take("error_got") == ["NOT_FOUND", "", 0]
    assert take("error_again") == ["ALREADY_EXISTS", "", 0]
    for kind in ("token", "negative", "selector"):
        assert take(f"error_{kind}") == ["INVALID_ARGUMENT", "INVALID_ARGUMENT", 1]
    assert take("template_gone") == [1, 3]
    assert take("session") == ["in\n", "2\n"]
    assert take("session_again") is True
    assert take("session_life") == [7, 2, 1]
    assert take("ids") == 5
    assert take("attach") == "GatewayError"
    assert take("context") == "hi\n"
    assert not seen


REAL = r"""
import json, os
from openshell import Sandbox, SandboxClient

seen = {}
with SandboxClient.from_active_cluster() as client:
    made = client.create(workspace="default", name="real")
    seen["phase"] = made.status.phase
    result = client.exec("real", ["sh", "-c", "id -un; pwd; cat; exit 5"], workspace="default", stdin=b"in")
    seen["exec"] = [result.exit_code, result.stdout]
    seen["absent"] = client.exec("real", ["no-such-command"], workspace="default").exit_code
    seen["python"] = client.exec_python("real", os.getcwd, workspace="default").stdout
    seen["shown"] = client.exec("real", ["sh", "-c", "echo $PATH$PYTHONPATH"], workspace="default").stdout
    client.exec("real", ["sh", "-c", "echo kept > note"], workspace="default")
    client.stop("real", workspace="default")
    client.start("real", workspace="default")
    client.wait_ready("real", workspace="default")
    seen["kept"] = client.exec("real", ["cat", "note"], workspace="default").stdout
    client.exec("real", ["sh", "-c", "echo up > /tmp/alive"], workspace="default")
with Sandbox(workspace="default") as sandbox:
    seen["context"] = sandbox.exec(["echo", "hi"]).stdout
print(json.dumps(seen))
"""

AFTER = r"""
import json
from openshell import SandboxClient

with SandboxClient.from_active_cluster() as client:
    client.wait_ready("real", workspace="default")
    seen = {"kept": client.exec("real", ["cat", "note", "/tmp/alive"], workspace="default").stdout}
    seen["deleted"] = int(client.delete("real", workspace="default").outcome)
print(json.dumps(seen))
"""


@pytest.mark.timeout(500)
def test_the_official_sdk_drives_real_sandboxes_and_a_killed_gateway_comes_back(
    interpreter: str, tmp_path: Path
) -> None:
    """Namespaces instead of fakes; `kill -9` of the gateway ends no process of a sandbox."""

    def told(story: str) -> dict[str, object]:
        done = subprocess.run(
            [interpreter, "-c", story], env=home, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    home = environ(tmp_path)
    running = daemon.start(port=0, environ=home)
    try:
        assert told(REAL) == {
            "phase": 2,
            "exec": [5, "sandbox\n/sandbox\nin"],
            "absent": 127,
            "python": "/sandbox\n",  # the host's python3, with the cloudpickle that the driver brings
            "shown": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            "kept": "kept\n",
            "context": "hi\n",
        }
        os.kill(running.pid, signal.SIGKILL)
        assert daemon.start(port=0, environ=home).pid != running.pid
        # /tmp belongs to the running workload: it would be empty had the sandbox been started again.
        assert told(AFTER) == {"kept": "kept\nup\n", "deleted": 1}
    finally:
        daemon.stop(environ=home)
