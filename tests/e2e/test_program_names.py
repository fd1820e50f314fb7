"""A policy may name a program by a link that leads to it; a rule for a script never matches, as the refusal says."""

from __future__ import annotations

import json

import pytest

from pyopenshell.client import Gateway
from tests.e2e.house import HOST, READ_ONLY, House, sh

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("program_names")]

ASK = f"""
import sys, urllib.request, urllib.error
try: print(urllib.request.urlopen('https://{HOST}/named', timeout=10).status)
except (OSError, urllib.error.URLError) as error: print(error)
"""


async def test_a_link_in_the_policy_names_the_program_it_leads_to(home: House, gateway: Gateway) -> None:
    home.create("linked", READ_ONLY.replace("/usr/bin/curl", "/usr/bin/python3"))
    ran = await sh(
        gateway, "linked", f"/usr/bin/python3 -c \"{ASK}\"; curl -s -o /dev/null -w '%{{http_connect}}' https://{HOST}/"
    )
    assert ran.out.split() == ["200", "403"], ran


async def test_a_rule_for_a_script_does_not_match_and_the_refusal_says_what_would(
    home: House, gateway: Gateway
) -> None:
    home.create("script", READ_ONLY.replace("/usr/bin/curl", "/sandbox/tool"))
    script = f"""#!/usr/bin/python3
import urllib.request, urllib.error
try: urllib.request.urlopen('http://{HOST}:443/x')
except urllib.error.HTTPError as e: print(e.read().decode())
"""
    ran = await sh(gateway, "script", f"cat > tool <<'E'\n{script}E\nchmod +x tool; ./tool; /sandbox/tool")
    for line, name in zip(ran.out.splitlines(), ("./tool", "/sandbox/tool"), strict=True):
        denial = json.loads(line)
        assert denial["failed_condition"] == "binary_not_allowed"
        assert f"running {name}; a rule for a script itself never matches" in denial["nearest_miss"]
