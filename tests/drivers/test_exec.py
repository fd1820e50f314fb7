"""Commands in a local sandbox: streams, exit codes, signals, terminals."""

from __future__ import annotations

import asyncio
import signal

import pytest

from pyopenshell.drivers.base import DriverError, ExecRequest, Process
from tests.drivers.sandboxes import Box

pytestmark = pytest.mark.e2e


class Screen:
    """What a terminal showed so far."""

    def __init__(self, process: Process) -> None:
        self._output = process.output()
        self._unread = ""

    async def until(self, text: str) -> str:
        """Everything from the last call up to and with `text`."""
        while text not in self._unread:
            self._unread += (await anext(self._output))[1].decode(errors="replace")
        seen, found, self._unread = self._unread.partition(text)
        return seen + found


async def test_streams_stay_apart_and_the_exit_code_arrives(box: Box) -> None:
    await box.create()
    ran = await box.sh("echo out; echo err >&2; exit 7")
    assert (ran.code, ran.out, ran.err) == (7, "out\n", "err\n")


async def test_stdin_reaches_the_command_and_ends(box: Box) -> None:
    await box.create()
    assert (await box.run("/bin/cat", stdin=b"hello")).out == "hello"
    megabyte = b"x" * (1 << 20)
    process = await box.driver.exec("one", ExecRequest(["/usr/bin/wc", "-c"]))
    await process.write(megabyte)
    process.close_stdin()
    assert b"".join([data async for _, data in process.output()]) == b"1048576\n"
    await process.aclose()


async def test_writing_to_a_command_that_ended_is_not_an_error(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/true"]))
    assert await process.wait() == 0
    await process.write(b"late" * 100_000)
    await process.aclose()
    await process.aclose()


async def test_a_signal_ends_a_command_as_a_shell_would_report_it(box: Box) -> None:
    await box.create()
    assert (await box.sh("kill -TERM $$")).code == 128 + signal.SIGTERM
    process = await box.driver.exec("one", ExecRequest(["/bin/sleep", "1000"]))
    process.signal(signal.SIGINT)
    assert await process.wait() == 128 + signal.SIGINT
    await process.aclose()


async def test_a_signal_reaches_the_whole_group(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sh", "-c", "sleep 1000 & sleep 1001; wait"]))
    process.signal(signal.SIGTERM)
    assert await process.wait() == 128 + signal.SIGTERM
    # End of output: nobody holds the pipe any more, so both sleeps are gone.
    assert [data async for _, data in process.output()] == []
    await process.aclose()


async def test_letting_go_of_a_running_command_kills_it(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/sh", "-c", "trap '' TERM HUP; sleep 1000"]))
    await process.aclose()
    assert await process.wait() == 128 + signal.SIGKILL


async def test_commands_run_beside_each_other(box: Box) -> None:
    await box.create()
    runs = await asyncio.gather(*(box.sh(f"echo {n}; exit {n}") for n in range(20)))
    assert [(ran.code, ran.out) for ran in runs] == [(n, f"{n}\n") for n in range(20)]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ExecRequest(["no-such-program"]), "CommandNotFound"),
        (ExecRequest(["/no/such"]), "CommandNotFound"),
        (ExecRequest(["/etc/passwd"]), "CommandNotExecutable"),
        (ExecRequest(["/bin/true"], workdir="/no/such"), "WorkdirNotFound"),
        (ExecRequest([]), "InvalidCommand"),
        (ExecRequest(["a\0b"]), "InvalidCommand"),
        (ExecRequest(["/bin/true"], environment={"A=B": "c"}), "InvalidEnvironment"),
    ],
)
async def test_a_command_that_cannot_start_says_why(box: Box, request_: ExecRequest, reason: str) -> None:
    await box.create()
    with pytest.raises(DriverError) as caught:
        await box.driver.exec("one", request_)
    assert caught.value.reason == reason
    assert (await box.sh("echo still here")).out == "still here\n"


async def test_exec_needs_a_running_sandbox(box: Box) -> None:
    with pytest.raises(DriverError) as caught:
        await box.driver.exec("nobody", ExecRequest(["/bin/true"]))
    assert caught.value.reason == "NotRunning"


async def test_a_huge_command_line_arrives_whole(box: Box) -> None:
    await box.create()
    ran = await box.run(
        "/bin/sh",
        "-c",
        'printf %s "$1" | wc -c; printf %s "$BIG" | wc -c',
        "sh",
        "a" * 120_000,
        environment={"BIG": "b" * 120_000},
    )
    assert ran.lines == ["120000", "120000"]


async def test_environment_is_built_from_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRET", "leak")
    await box.create(environment={"MINE": "1", "OPENSHELL_SANDBOX_TOKEN": "x"})
    ran = await box.run("/usr/bin/env", environment={"YOURS": "2", "OPENSHELL_SANDBOX": "0"})
    env = dict(line.split("=", 1) for line in ran.lines)
    assert "HOST_SECRET" not in ran.out
    assert "OPENSHELL_SANDBOX_TOKEN" not in env
    assert (env["MINE"], env["YOURS"], env["OPENSHELL_SANDBOX"]) == ("1", "2", "1")
    assert (env["HOME"], env["USER"], env["SHELL"]) == ("/sandbox", "sandbox", "/bin/bash")
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy"):
        assert env[name] == "http://10.200.0.1:3128"
    assert env["NO_PROXY"] == env["no_proxy"] == "127.0.0.1,localhost,::1"
    assert env["NODE_USE_ENV_PROXY"] == "1"
    for name in ("NODE_EXTRA_CA_CERTS", "DENO_CERT"):
        assert env[name] == "/etc/openshell-tls/openshell-ca.pem"
    for name in (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "AWS_CA_BUNDLE",
        "CARGO_HTTP_CAINFO",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "HTTPLIB2_CA_CERTS",
        "NIX_SSL_CERT_FILE",
    ):
        assert env[name] == "/etc/openshell-tls/ca-bundle.pem"


async def test_a_terminal_has_a_name_a_size_and_job_control(box: Box) -> None:
    await box.create()
    argv = ["/bin/bash", "--norc", "--noediting", "-i"]
    shell = await box.driver.exec(
        "one", ExecRequest(argv, environment={"PS1": "ready> "}, tty=True, columns=111, rows=33)
    )
    screen = Screen(shell)
    assert "job control" not in await screen.until("ready> ")
    await shell.write(b"tty; stty size\n")
    seen = await screen.until("ready> ")
    assert "/dev/pts/" in seen
    assert "33 111" in seen
    shell.resize(200, 50)
    await shell.write(b"stty size\n")
    assert "50 200" in await screen.until("ready> ")
    await shell.write(b"echo started; cat\n")
    await screen.until("\nstarted")
    await shell.write(b"hello\n")
    await screen.until("hello\r\nhello")
    await shell.write(b"\x03")
    await screen.until("ready> ")
    await shell.write(b"echo after-$?\n")
    await screen.until("after-130")
    await screen.until("ready> ")
    await shell.write(b"exit 5\n")
    assert await shell.wait() == 5
    await shell.aclose()


async def test_end_of_input_on_a_terminal(box: Box) -> None:
    await box.create()
    process = await box.driver.exec("one", ExecRequest(["/bin/cat"], tty=True))
    await process.write(b"line\n")
    process.close_stdin()
    seen = b"".join([data async for _, data in process.output()])
    assert seen.count(b"line") == 2
    assert await process.wait() == 0
    await process.aclose()


async def test_a_background_process_that_keeps_the_pipe_does_not_keep_the_caller(box: Box) -> None:
    await box.create()
    async with asyncio.timeout(20):
        ran = await box.sh("echo first; sleep 1000 & echo $!")
    first, background = ran.out.split()
    assert first == "first"
    assert (await box.sh(f"kill -0 {background} && echo alive")).out == "alive\n"


async def test_nothing_a_command_wrote_last_is_lost(box: Box) -> None:
    await box.create()
    ran = await box.sh("sleep 1000 & head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2")
    assert (len(ran.out), len(ran.err)) == (300000, 300000)


async def test_dial_reaches_what_listens_inside_and_nothing_else(box: Box) -> None:
    await box.create()
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 8000)); print('up', flush=True); "
        "c, _ = s.accept(); c.sendall(c.recv(10)); c.close()"
    )
    server = await box.driver.exec("one", ExecRequest(["/usr/bin/python3", "-c", script]))
    async for _ in server.output():
        break
    sock = await box.driver.dial("one", 8000)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"through")
    assert await loop.sock_recv(sock, 10) == b"through"
    assert await loop.sock_recv(sock, 10) == b""
    sock.close()
    assert await server.wait() == 0
    await server.aclose()
    with pytest.raises(DriverError) as caught:
        await box.driver.dial("one", 8000)
    assert caught.value.reason == "NotListening"
    await box.driver.stop("one")
    with pytest.raises(DriverError) as caught:
        await box.driver.dial("one", 8000)
    assert caught.value.reason == "NotRunning"
