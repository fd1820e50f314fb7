"""METHOD URL: print the body, as a script that uses requests would."""

import sys

import requests

response = requests.request(sys.argv[1], sys.argv[2], timeout=20)
print(response.text, end="")
response.raise_for_status()
