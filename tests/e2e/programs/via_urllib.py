"""METHOD URL: print the body, as a script that uses the standard library would."""

import sys
import urllib.request

with urllib.request.urlopen(urllib.request.Request(sys.argv[2], method=sys.argv[1])) as response:
    print(response.read().decode(), end="")
