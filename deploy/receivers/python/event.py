"""What to do with an event: open it, keep it once, decide by its type."""

import json


def read_private_keys(path):
    """The JWKS whose public half is the webhook's encrypt_to_file. In a rotation it holds both keys."""
    from jwcrypto.jwk import JWKSet  # only encrypted content needs it

    with open(path) as file:
        return JWKSet.from_json(file.read())


def opened(event, private_keys):
    """The whole event. With `content: encrypted` it is in data.encrypted; other content comes as it is."""
    if "encrypted" not in event["data"]:
        return event
    from jwcrypto.jwe import JWE

    jwe = JWE(algs=["ECDH-ES+A256KW", "A256GCM"])  # said here, never taken from the message
    jwe.deserialize(event["data"]["encrypted"])
    key = private_keys and private_keys.get_key(jwe.jose_header.get("kid"))
    if not key or "zip" in jwe.jose_header:
        raise ValueError("encrypted to no key of ours, or compressed")
    jwe.decrypt(key)
    inner = json.loads(jwe.payload)
    # Anybody can encrypt to a public key: what is inside must be what was vouched for outside.
    if names(inner) != names(event):
        raise ValueError("the encrypted event is not the one around it")
    return inner


def names(event):
    return event["type"], event["data"].get("id"), event["data"].get("status")  # endpoint.test has neither


kept = {}  # your database: a table with a unique key over data.id and type


def keep(event):
    """Stores an event, once. Answer 2xx only after it has returned."""
    if not event["type"].startswith("step_up."):
        return  # endpoint.test
    # The same event comes again until it is answered, and once from each of your webhooks: webhook-id would not tell.
    key = event["data"]["id"], event["type"]
    if kept.setdefault(key, event) is event:
        # reference, metadata and identity may tell of a person: keep them out of logs
        print(*key, decide(event), flush=True)


def decide(event):
    """Yours. The type decides, not data.status: an approval that came too late is step_up.delivery_expired, "approved"."""
    if event["type"] != "step_up.approved":
        # denied, expired, cancelled and failed are no. So is unknown: the person may have said yes, but nobody can prove it.
        # After unknown and delivery_expired ask again, under a new Idempotency-Key.
        return "not approved"
    identity = event["data"].get("identity")
    if not identity:
        return "approved, fetch who"  # `content: reference`: GET /v1/step-ups/{id}
    if not identity["bound"]:
        return "approved, compare who"  # with the customer whom you meant
    return "approved"
