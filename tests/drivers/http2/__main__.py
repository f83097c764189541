"""HTTP/2 conformance: `python tests/drivers/http2 HOST:PORT HTTPS_HOST:PORT CA.pem [WORD...]`.

One JSON line for each case: its section, its rule, how it was reached, and `fault` where the server broke the rule.
Words choose the cases that have all of them in section or rule. The server is one that runs builds/sample.toml.
"""

import json
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import compression  # noqa: F401
import frames  # noqa: F401
import kinds  # noqa: F401
import messages  # noqa: F401
import strict  # noqa: F401
from table import CASES
from wire import Closed, Connection, Target, Wrong

# Cases at once: most of them wait.
WORKERS = 8


def run(case, target):
    fault = None
    connection = None
    try:
        connection = Connection(target, raw=case.raw)
        case.run(connection)
    except Wrong as wrong:
        fault = str(wrong)
    except Closed as end:
        fault = f"the connection was closed: {end}"
    except Exception as error:  # noqa: BLE001: a case that breaks is a fault, too
        fault = repr(error)
    finally:
        if connection:
            connection.close()
    return {"section": case.section, "rule": case.rule, "over": "TLS" if target.tls else "TCP", "fault": fault}


def main():
    plain, tls, ca, *words = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    targets = []
    for address, context in [(plain, None), (tls, context)]:
        host, port = address.rsplit(":", 1)
        targets.append(Target(host, int(port), context))
    chosen = [case for case in CASES if all(word in f"{case.section} {case.rule}" for word in words)]
    with ThreadPoolExecutor(WORKERS) as pool:
        for done in pool.map(lambda pair: run(*pair), [(case, target) for target in targets for case in chosen]):
            print(json.dumps(done), flush=True)


main()
