"""What REDbot objects to: `python tests/drivers/redbot_notes.py URL` prints a JSON line with the answer's status and
those notes that are warnings or worse. One URL, because REDbot's event loop runs once in a process."""

import json
import sys
from configparser import ConfigParser

import thor
from redbot.resource import HttpResource


def check(url):
    config = ConfigParser()
    config.read_dict({"redbot": {"enable_local_access": "True"}})
    resource = HttpResource(config["redbot"])
    resource.set_request(url)

    @thor.events.on(resource)
    def check_done():
        thor.stop()

    resource.check()
    thor.run()
    return resource


def notes(all_notes):
    for note in all_notes:
        yield from notes(note.subnotes)
        if note.level.name in ("WARN", "BAD"):
            yield {"note": note.__class__.__name__, "level": note.level.name, "text": note.summary}


checked = check(sys.argv[1])
fault = repr(checked.fetch_error) if checked.fetch_error else None
response = checked.response
print(json.dumps({"status": response.status_code, "error": fault, "notes": list(notes(response.notes))}))
