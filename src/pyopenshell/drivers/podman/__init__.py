"""Sandboxes in containers of Podman, rootless and rootful. See docs/podman.md."""
