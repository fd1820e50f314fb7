"""`openshell`: the list of verbs and where each lives. Decides nothing else, so that starting stays cheap."""

from __future__ import annotations

import os
import sys

from pyopenshell.cli.framework import Root

SECTIONS = {
    "SANDBOX COMMANDS": (
        ("sandbox", "pyopenshell.cli.sandbox", "Create sandboxes and run commands in them."),
        ("forward", "pyopenshell.cli.forward", "Reach a server in a sandbox through a port of this machine."),
        ("logs", "pyopenshell.cli.logs", "Show or follow a sandbox's log."),
        ("policy", "pyopenshell.cli.policy", "Set and inspect what a sandbox may reach."),
        ("rule", "pyopenshell.cli.rule", "The approval inbox: what agents ask for, what it would newly permit."),
        ("settings", "pyopenshell.cli.settings", "Feature switches of a sandbox or of all."),
    ),
    "GATEWAY COMMANDS": (
        ("gateway", "pyopenshell.cli.gateway", "Start, stop and choose gateways."),
        ("status", "pyopenshell.cli.status", "Is the gateway there, and who am I to it?"),
    ),
    "ADDITIONAL COMMANDS": (
        (
            "doctor",
            "pyopenshell.cli.doctor.command",
            "Which walls hold on this machine, and what to do about the others.",
        ),
        ("term", "pyopenshell.cli.term", "The approval inbox on a full screen."),
        ("web", "pyopenshell.cli.web", "The approval inbox in a browser on this machine."),
        ("demo", "pyopenshell.cli.demo.command", "Watch the whole loop happen, for real, on this machine."),
    ),
}
ALIASES = {
    "sb": "sandbox",
    "fwd": "forward",
    "lg": "logs",
    "pol": "policy",
    "rl": "rule",
    "gw": "gateway",
    "dr": "doctor",
}

EXAMPLES = (
    "openshell sandbox create -- curl https://example.com",
    "openshell rule get",
    "openshell rule approve --chunk-id 3f2a",
    "openshell demo",
)
HIDDEN = {"ssh-proxy": "pyopenshell.cli.ssh"}
"""What other programs call, not people."""
command = Root(SECTIONS, ALIASES, EXAMPLES, HIDDEN)


def main() -> None:
    """Console entry point."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = 0
    try:
        command.main(prog_name="openshell")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 141
    # Tearing down gRPC's threads and the interpreter costs a tenth of a short command and frees nothing anyone needs.
    os._exit(code)


if __name__ == "__main__":
    main()
