"""METHOD URL: print the body, as a script that uses httpx would."""

import sys

import httpx

response = httpx.request(sys.argv[1], sys.argv[2])
print(response.text, end="")
response.raise_for_status()
