"""The environment of every command in a sandbox (contract/sandbox.md 12).

Decides names and values; they carry no secret. Built from nothing: the host's environment never shines through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyopenshell.isolation.walls import PROXY, WORKDIR

RESERVED_PREFIX: Final = "OPENSHELL_"
PYTHON_CALL: Final = "OPENSHELL_PYFUNC_B64"
"""The SDK's exec_python hands its function over in it: the one reserved name that a command may bring."""
PYTHON_PARTS: Final = "/etc/openshell-python"
"""What exec_python expects of every image: `bin/python`, which finds cloudpickle in `lib`."""
CA_FILE: Final = "/etc/openshell-tls/openshell-ca.pem"
CA_BUNDLE: Final = "/etc/openshell-tls/ca-bundle.pem"
CA_KEYSTORE: Final = "/etc/openshell-tls/cacerts.jks"
_PROXY_URL: Final = f"http://{PROXY[0]}:{PROXY[1]}"
_NO_PROXY: Final = "127.0.0.1,localhost,::1"

BASE: Final[Mapping[str, str]] = {
    "OPENSHELL_SANDBOX": "1",
    "HOME": WORKDIR,
    "USER": "sandbox",
    "LOGNAME": "sandbox",
    "SHELL": "/bin/bash",
    "TERM": "xterm-256color",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    **dict.fromkeys(
        ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy"),
        _PROXY_URL,
    ),
    "NO_PROXY": _NO_PROXY,
    "no_proxy": _NO_PROXY,
    "NODE_USE_ENV_PROXY": "1",
    # Programs that add a certificate to their own roots, then programs that replace their roots.
    "NODE_EXTRA_CA_CERTS": CA_FILE,
    "DENO_CERT": CA_FILE,
    **dict.fromkeys(
        (
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
        ),
        CA_BUNDLE,
    ),
}


def environment(*layers: Mapping[str, str]) -> dict[str, str]:
    """BASE under the users' layers, later ones first. `OPENSHELL_*` from users is dropped, but for PYTHON_CALL.

    Raises ValueError for a name or value the kernel cannot carry.
    """
    result = dict(BASE)
    for layer in layers:
        for name, value in layer.items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                raise ValueError(f"not an environment variable: {name!r}")
            if not name.startswith(RESERVED_PREFIX) or name == PYTHON_CALL:
                result[name] = value
    if PYTHON_CALL in result:
        result["PATH"] = f"{PYTHON_PARTS}/bin:{result['PATH']}"
    return result
