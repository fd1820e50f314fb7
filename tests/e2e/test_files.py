"""Files in and out, and SSH, as people use them: the real commands against a real sandbox."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess

import pytest

from tests.e2e.house import OPENSHELL, House

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("files")]


@pytest.fixture(scope="module")
def box(home: House) -> str:
    home.create("files")
    return "files"


def inside(home: House, box: str, script: str) -> str:
    return home.cli("sandbox", "exec", "-n", box, "--", "/bin/sh", "-c", script).out


def test_upload_then_command_then_download(home: House, tmp_path: pathlib.Path) -> None:
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/run.sh").write_text("#!/bin/sh\necho ran > made\n")
    (project / "src/run.sh").chmod(0o755)
    ran = home.cli(
        "sandbox", "create", "--name", "withfiles", "--upload", str(project), "--", "/bin/sh", "-c",
        "cd /sandbox/project && ./src/run.sh && id -un",
    )  # fmt: skip
    assert ran.out == "sandbox\n"
    assert "Uploading files to ~..." in ran.err
    home.cli("sandbox", "download", "withfiles", "project/made", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "ran\n"
    missing = home.cli("sandbox", "create", "--name", "never", "--upload", str(tmp_path / "nowhere"), ok=False)
    assert missing.code == 1
    assert f"local path does not exist: {tmp_path / 'nowhere'}" in missing.err
    assert "never" not in home.cli("sandbox", "list", "--names").out


def test_a_large_file_survives_both_ways(home: House, box: str, tmp_path: pathlib.Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "-big file").write_bytes(data)
    home.cli("sandbox", "upload", box, str(tmp_path / "-big file"), "deep/er/")
    assert inside(home, box, "sha256sum < '/sandbox/deep/er/-big file'").split()[0] == hashlib.sha256(data).hexdigest()
    home.cli("sandbox", "download", box, "deep", str(tmp_path / "out"))
    assert (tmp_path / "out/er/-big file").read_bytes() == data


@pytest.mark.parametrize(
    ("make", "path", "says"),
    [
        ("ln -s /etc/passwd out1", "out1", "leads out of /sandbox (to /etc/passwd)"),
        ("mkdir -p e2 && ln -s ../.. e2/up", "e2", "a link leads out of what is downloaded"),
        ("mkdir -p e3 && mkfifo e3/f", "e3", "neither file, directory nor link"),
        (":", "../etc/hostname", "leads out of /sandbox"),
        (":", "/proc/self/environ", "leads out of /sandbox"),
        (":", "nosuch", "no such file or directory"),
    ],
)
def test_hostile_trees_bring_nothing(
    home: House, box: str, tmp_path: pathlib.Path, make: str, path: str, says: str
) -> None:
    inside(home, box, f"cd /sandbox && {{ {make}; }}")
    ran = home.cli("sandbox", "download", box, path, str(tmp_path), ok=False)
    assert ran.code == 1
    assert says in ran.err, ran.err
    assert list(tmp_path.iterdir()) == []


def test_nothing_on_the_host_is_overwritten(home: House, box: str, tmp_path: pathlib.Path) -> None:
    inside(home, box, "echo theirs > /sandbox/.bashrc")
    (tmp_path / ".bashrc").write_text("mine")
    ran = home.cli("sandbox", "download", box, ".bashrc", str(tmp_path), ok=False)
    assert (ran.code, (tmp_path / ".bashrc").read_text()) == (1, "mine")
    assert "exists already" in ran.err


def test_upload_failing_inside_leaves_no_part(home: House, box: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_text("x")
    ran = home.cli("sandbox", "upload", box, str(tmp_path / "f"), "/usr/f", ok=False)
    assert ran.code == 1
    assert "Read-only file system" in ran.err or "Permission denied" in ran.err
    assert inside(home, box, "ls /sandbox/*.part-* 2>/dev/null | wc -l").strip() == "0"


class Ssh:
    """`ssh` and its family with the configuration that `ssh-config` printed."""

    def __init__(self, home: House, box: str, directory: pathlib.Path) -> None:
        self.config, self.host, self.env = directory / "ssh_config", f"openshell-{box}.default", home.env
        self.config.write_text(home.cli("sandbox", "ssh-config", box).out)

    def run(self, *command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=self.env, input=data, capture_output=True, timeout=60, check=False)

    def __call__(self, *command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.run("ssh", "-F", str(self.config), self.host, *command, data=data)


@pytest.fixture
def ssh(home: House, box: str, tmp_path: pathlib.Path) -> Ssh:
    return Ssh(home, box, tmp_path)


def test_ssh_runs_commands_with_their_streams_and_exit_code(ssh: Ssh) -> None:
    ran = ssh("cat; echo to-err >&2; id -un; exit 7", data=b"from-stdin\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"from-stdin\nsandbox\n", b"to-err\n")
    large = os.urandom(1_000_000)
    assert ssh("cat", data=large).stdout == large


def test_ssh_gives_a_terminal(ssh: Ssh) -> None:
    ran = ssh.run("ssh", "-tt", "-F", str(ssh.config), ssh.host, "tty; echo $TERM")
    assert ran.returncode == 0
    assert b"/dev/pts/" in ran.stdout


def test_scp_sftp_rsync_and_git(ssh: Ssh, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "repo"
    source.mkdir()
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    (source / "a").write_text("hello")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    options = ("-F", str(ssh.config))
    for command in (
        ["scp", *options, str(source / "a"), f"{ssh.host}:/sandbox/by-scp"],
        ["scp", "-O", *options, str(source / "a"), f"{ssh.host}:/sandbox/by-old-scp"],
        ["rsync", "-a", "-e", f"ssh -F {ssh.config}", f"{source}/", f"{ssh.host}:/sandbox/by-rsync/"],
        ["git", "-c", f"core.sshCommand=ssh -F {ssh.config}", "clone", "-q", f"{ssh.host}:/sandbox/by-rsync",
         str(tmp_path / "clone")],
        ["scp", *options, f"{ssh.host}:/sandbox/by-scp", str(tmp_path / "back")],
    ):  # fmt: skip
        done = ssh.run(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "back").read_text() == "hello"
    assert (tmp_path / "clone/a").read_text() == "hello"


def test_ssh_to_what_is_not_there_says_so(home: House, ssh: Ssh) -> None:
    ssh.config.write_text(ssh.config.read_text().replace("--name files", "--name nobody"))
    ran = ssh("true")
    assert ran.returncode == 255
    assert b"sandbox" in ran.stderr
    assert b"not found" in ran.stderr
    usage = subprocess.run([OPENSHELL, "ssh-proxy"], env=home.env, capture_output=True, text=True, check=False)
    assert (usage.returncode, "provide --gateway-name and --name" in usage.stderr) == (1, True)


def test_ending_ssh_ends_the_command(home: House, box: str, ssh: Ssh) -> None:
    process = subprocess.Popen(
        ["ssh", "-F", str(ssh.config), ssh.host, "echo up; exec -a ends-with-ssh sleep 1000"],
        env=ssh.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    process.wait(10)
    script = "for n in $(seq 300); do pgrep -f ends-with-ss[h] >/dev/null || { echo gone; exit; }; done; echo there"
    assert inside(home, box, script) == "gone\n"
    process.stdout.close()
