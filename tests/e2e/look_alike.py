"""`openshell demo --github` where GitHub is a look-alike: run inside network and mount namespaces of its own.

    unshare --net --mount python -m tests.e2e.look_alike HOSTS_FILE CA_BUNDLE TOKEN

Nothing is overridden in the product: the name resolves through the hosts file to an address on this namespace's `lo`
(TEST-NET-3, RFC 5737: it exists nowhere else), the certificate is checked against the machine's trust store, and the
demo believes that it speaks to GitHub. Prints one JSON object: the demo's exit code and outputs, and the files stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import ssl
import subprocess
import sys

from pyopenshell.cli.demo.forge import forge
from pyopenshell.cli.demo.story import HOST

ADDRESS = "203.0.113.10"
REPOSITORY = "acme/field-notes"


async def main(hosts: pathlib.Path, bundle: pathlib.Path, token: str) -> None:
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo"]):
        subprocess.run(command, check=True)
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    async with forge(HOST, address=ADDRESS, port=443, token=token) as look_alike:
        system = ssl.get_default_verify_paths().cafile
        bundle.write_text((pathlib.Path(system).read_text() if system else "") + look_alike.ca_pem)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pyopenshell.cli.main", "demo", "--yes", "--github", REPOSITORY, "-o", "json",
            env=os.environ | {"GITHUB_TOKEN": token, "SSL_CERT_FILE": str(bundle)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await child.communicate()
        files = {f"{repository}:{path}": content.decode() for (repository, path), content in look_alike.files.items()}
        print(json.dumps({"code": child.returncode, "out": out.decode(), "err": err.decode(), "files": files,
                          "requests": look_alike.requests}))  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]))
