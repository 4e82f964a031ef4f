"""Check an RO-Crate against a profile, without a network: prints one line per violation.

    PYTHON validate_crate.py FOLDER

PYTHON is that of the environment with the packages of validator.txt. The context of RO-Crate 1.1 is
the one that the library rocrate brings, with the two terms that 1.1 has under other addresses.
"""

import email.message
import io
import json
import sys
import urllib.request
import urllib.response
from pathlib import Path

import requests
import rocrate
from rocrate_validator import models, services

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_content = json.loads((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text())
_content["@context"] |= {
    name: f"https://bioschemas.org/{name}" for name in ("ComputationalWorkflow", "FormalParameter")
}
BODY = json.dumps(_content).encode()
KIND = "application/ld+json"


class Offline(urllib.request.BaseHandler):
    handler_order = 1

    def https_open(self, request):
        assert request.full_url == CONTEXT, request.full_url
        head = email.message.Message()
        head["Content-Type"] = KIND
        return urllib.response.addinfourl(io.BytesIO(BODY), head, CONTEXT, 200)


def send(session, request, **_):
    assert request.url == CONTEXT, request.url
    response = requests.Response()
    response.status_code, response.url, response.request = 200, CONTEXT, request
    response.raw, response.headers["Content-Type"] = io.BytesIO(BODY), KIND
    return response


urllib.request.install_opener(urllib.request.build_opener(Offline()))
requests.Session.send = send
settings = services.ValidationSettings(
    rocrate_uri=sys.argv[1],
    profile_identifier="workflow-run-crate",
    requirement_severity=models.Severity.REQUIRED,
    no_cache=True,
)
found = services.validate(settings)
for issue in found.get_issues():
    print(issue.check.identifier, issue.message)
sys.exit(not found.passed())
