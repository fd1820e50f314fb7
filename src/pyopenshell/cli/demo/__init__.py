"""`openshell demo`: the whole loop on this machine, in a private gateway, with a server that stands in for GitHub."""
