"""Names for the attempts on addresses: each resolves to what ATTEMPTED_NAMES says, one answer after the other.

On the path of the server and its worker alone, as a name server that an attacker keeps would be.
"""

import json
import os
import socket

ANSWERS = json.loads(os.environ.get("ATTEMPTED_NAMES", "{}"))
ask_the_system = socket.getaddrinfo


def getaddrinfo(host, port, *rest, **more):
    answers = ANSWERS.get(host)
    if answers is None:
        return ask_the_system(host, port, *rest, **more)
    addresses = answers.pop(0) if len(answers) > 1 else answers[0]
    return [found for address in addresses for found in ask_the_system(address, port, *rest, **more)]


socket.getaddrinfo = getaddrinfo
