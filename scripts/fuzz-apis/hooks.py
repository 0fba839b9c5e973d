"""What the fuzzer can't know of the APIs from their description."""

import re
import uuid

import schemathesis

KEY = re.compile(r'^([!#-~]{1,255}|"[!#-~]{1,255}")$')
LONG_WAIT = re.compile(r"^([1-5]s|[0-9]{3,4}ms)$")


@schemathesis.serializer("application/x-ndjson")
def newline_delimited(ctx, value):
    """Lines are sent as they are."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    use_key_once(case.headers or {})
    shorten_wait(case.query or {})


def use_key_once(headers):
    """One key may serve one request only."""
    for name, value in list(headers.items()):
        if name.lower() == "idempotency-key" and isinstance(value, str) and KEY.match(value):
            headers[name] = str(uuid.uuid4())


def shorten_wait(query):
    """A run would wait for hours for versions that never come."""
    if LONG_WAIT.match(str(query.get("wait"))):
        query["wait"] = "10ms"


@schemathesis.check
def only_a_wait_ends_with_503(ctx, response, case):
    """What the notifications API may answer so is told apart here from what it may not."""
    if response.status_code == 503 and response.json().get("type") != "/problems/not-yet":
        raise AssertionError("503 for another reason than a wait that is over")
