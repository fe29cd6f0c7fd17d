"""The snippets of docs/python.md: each fenced block with the name in the comment before it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"

_BLOCK = re.compile(r"(?:^<!-- snippet: (?P<name>[a-z0-9-]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


class Page:
    """What is asked for is noted, so that a block that nothing runs is found."""

    def __init__(self):
        self.snippets = {}
        self.problems = []
        self.used = set()
        for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
            name, text = block["name"], block["text"]
            if name is None:
                self.problems.append(f"a block has no name: {text.splitlines()[0]}")
            elif name in self.snippets:
                self.problems.append(f"two blocks are called {name}")
            else:
                self.snippets[name] = text

    def snippet(self, name):
        self.used.add(name)
        return self.snippets[name]

    def unused(self):
        return sorted(set(self.snippets) - self.used)
