"""`wick serve` as the page's tests start it."""

import re
import subprocess


class Service:
    """A service of the test's own, at a free port unless one is given."""

    def __init__(self, wick, *options, port=0):
        command = [wick, "serve", "--port", str(port), *map(str, options)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in self.process.stderr:
            said += line
            if line.endswith(" answers\n"):
                break
        found = re.search(r"http://[^ /]+:(\d+)", said)
        assert found, said
        self.port = int(found[1])
        # As browsers name it, to whom it is a secure origin.
        self.url = f"http://localhost:{self.port}/"

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
