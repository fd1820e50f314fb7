"""The driver host of containers: watcher and supervisors as for local sandboxes; Podman makes what they guard.

python -P -m pyopenshell.drivers.podman.host --state DIR --supervisor MODULE:FUNCTION [--ready-fd N]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyopenshell.drivers.local import host

if TYPE_CHECKING:
    from pyopenshell.drivers.local.files import StateFiles
    from pyopenshell.drivers.local.server import Server


def containers() -> tuple[type[StateFiles], type[Server]]:
    from pyopenshell.drivers.podman.files import ContainerFiles
    from pyopenshell.drivers.podman.server import ContainerServer

    return ContainerFiles, ContainerServer


if __name__ == "__main__":
    host.main(parts=containers, clones=False)
