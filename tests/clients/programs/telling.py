"""What the programs share: how they tell what came of a scenario, and the tool they offer."""

import json
import os
import sys
import time
from pathlib import Path

SCENARIO, VARIANT = sys.argv[1], sys.argv[2]
URL, MODEL = os.environ["NEXUS_URL"], os.environ["MODEL"]
PROMPT = "read the nexus note" if SCENARIO == "tools" else "say hello"
TOOL_NAME, TOOL_SAYS = "read_note", "Reads a note."
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def read_note(name):
    """The tool."""
    return Path(name).read_text()


def tell(**said):
    print(json.dumps(said))


def leave():
    """The stream was given up; go on living, so that it is not the end of this process that closes the connection."""
    print("left")
    time.sleep(120)
