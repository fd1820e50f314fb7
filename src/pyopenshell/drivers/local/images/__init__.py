"""Root images of the local driver: a directory, a tarball, an OCI layout or an archive of one, as a read-only tree.

`archive` unpacks one tar stream safely, `oci` finds the layers of an image, `cache` keeps what was unpacked.
"""
