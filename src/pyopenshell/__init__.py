"""pyopenshell: the OpenShell agent sandbox. Start with `openshell --help` or `docs/architecture.md`."""

from __future__ import annotations

__version__ = "0.1.0"
