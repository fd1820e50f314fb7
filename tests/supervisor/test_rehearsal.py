"""What runs before supervisors are forked must leave nothing behind that they could share by mistake."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, os, ssl, sys, threading
from pyopenshell.supervisor.process import rehearse
from pyopenshell.supervisor.proxy.tls import CertificateAuthority

before = sorted(os.listdir("/proc/self/fd"))
rehearse()
left = sorted(os.listdir("/proc/self/fd")) == before and threading.active_count() == 1
secrets = []
for _ in range(3):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        own = [ssl.RAND_bytes(16).hex(), CertificateAuthority.create("CA").ca_pem, os.urandom(16).hex()]
        os.write(writing, json.dumps(own).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        secrets += json.load(pipe)
    os.waitpid(pid, 0)
print(json.dumps({"clean": left, "secrets": secrets}))
"""


def test_forks_after_a_rehearsal_share_no_secret_descriptor_or_thread() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["clean"]
    assert len(set(found["secrets"])) == len(found["secrets"]) == 9
