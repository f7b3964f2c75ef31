"""Receives stepup's webhooks: `python3 receiver.py KEYS [PRIVATE_JWKS]`, at http://127.0.0.1:9090/ (PORT is another port).

KEYS has what verifies, a whsec_ or whpk_ a line; in a rotation the old and the new. PRIVATE_JWKS opens encrypted content.
whsec_ needs the standard library alone, whpk_ the package cryptography, encrypted content the package jwcrypto.
"""

import base64
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from event import keep, opened, read_private_keys

MAX_BODY = 64 * 1024
TOLERANCE = 5 * 60  # seconds, around the timestamp


def v1(secret):
    """HMAC-SHA256 by a secret that the sender has too."""

    def matches(signed, signatures):
        want = b"v1," + base64.b64encode(hmac.digest(secret, signed, "sha256"))
        return any(hmac.compare_digest(signature.encode(), want) for signature in signatures)

    return matches


def v1a(public):
    """ed25519 by a key that only the sender holds."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(public)

    def good(signed, signature):
        try:
            key.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)
            return True
        except (InvalidSignature, ValueError):
            return False

    return lambda signed, signatures: any(good(signed, s) for s in signatures if s.startswith("v1a,"))


def read_keys(path):
    kinds = {"whsec": v1, "whpk": v1a}
    with open(path) as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    if not lines or any(line.split("_")[0] not in kinds for line in lines):
        sys.exit(f"{path} must have lines that begin with whsec_ or whpk_, and no others")
    return [kinds[kind](base64.b64decode(text, validate=True)) for kind, text in (line.split("_") for line in lines)]


def verified(headers, body, keys):
    values = [headers.get_all(name, []) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")]
    if any(len(v) != 1 for v in values):
        return False
    event_id, timestamp, signatures = (v[0] for v in values)
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{event_id}.{timestamp}.".encode() + body
    return any(matches(signed, signatures.split(" ")) for matches in keys)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10  # for a connection on which nothing comes

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY:
            return self.answer(413, "close")  # the body is not read
        body = self.rfile.read(int(length))  # the bytes that were signed: JSON parsed and written again has others
        if not verified(self.headers, body, KEYS):
            return self.answer(401)
        try:
            keep(opened(json.loads(body), PRIVATE_KEYS))
        except Exception as err:  # not opened or not stored: it is sent again
            self.log_error("not kept: %s", type(err).__name__)  # its text may quote the event
            return self.answer(500)
        return self.answer(204)  # only now: after 2xx it is not sent again

    def answer(self, status, connection="keep-alive"):
        self.send_response(status)
        self.send_header("Connection", connection)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    KEYS = read_keys(sys.argv[1])
    PRIVATE_KEYS = read_private_keys(sys.argv[2]) if len(sys.argv) > 2 else None
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9090"))), Receiver)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
