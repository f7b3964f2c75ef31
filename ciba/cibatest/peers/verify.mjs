// Verifies webhooks with npm standardwebhooks, a receiver's library that is not ours; v1a, which
// it does not know, with Node's own crypto. Opens encrypted content with npm jose.
// Standard input: one JSON object a line, {"secret":"whsec_…" or "whpk_…","headers":{"webhook-id":"…",…},"body":"…"}
// or {"jwks":{"keys":[…]},"jwe":"…"}.
// Standard output: for each of them, in order, {"ok":true}, {"ok":true,"plain":"…"} or {"ok":false,"error":"…"}.
import {createPublicKey, verify} from 'node:crypto';
import {createInterface} from 'node:readline';
import {compactDecrypt, importJWK} from 'jose';
import {Webhook} from 'standardwebhooks';

async function judge(line) {
  try {
    const {jwks, jwe, secret, headers, body} = JSON.parse(line);
    if (jwe) return {ok: true, plain: await open(jwks, jwe)};
    if (secret.startsWith('whpk_')) verifyV1a(secret, headers, body);
    else new Webhook(secret).verify(body, headers);
    return {ok: true};
  } catch (err) {
    return {ok: false, error: `${err.name}: ${err.message}`};
  }
}

// verifyV1a is what a receiver in Node writes (Standard Webhooks 1.0.0, "Signature scheme").
function verifyV1a(whpk, headers, body) {
  const {'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures} = headers;
  if (!id || !timestamp || !signatures) throw new Error('Missing required headers');
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) throw new Error('Message timestamp too old or too new');
  const x = Buffer.from(whpk.slice('whpk_'.length), 'base64').toString('base64url');
  const key = createPublicKey({key: {kty: 'OKP', crv: 'Ed25519', x}, format: 'jwk'});
  const signed = Buffer.from(`${id}.${timestamp}.${body}`);
  const good = signatures.split(' ').some(entry =>
    entry.startsWith('v1a,') && verify(null, signed, key, Buffer.from(entry.slice('v1a,'.length), 'base64')));
  if (!good) throw new Error('No matching signature found');
}

// open is what a receiver in Node writes: the key that the kid names, and the two algorithms that were agreed.
async function open({keys}, jwe) {
  const alg = 'ECDH-ES+A256KW';
  const choose = ({kid}) => {
    const jwk = keys.find(key => key.kid === kid);
    if (!jwk) throw new Error('No such key');
    return importJWK(jwk, alg);
  };
  const allowed = {keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: ['A256GCM']};
  const {plaintext} = await compactDecrypt(jwe, choose, allowed);
  return new TextDecoder('utf-8', {fatal: true, ignoreBOM: true}).decode(plaintext);
}

for await (const line of createInterface({input: process.stdin})) {
  process.stdout.write(`${JSON.stringify(await judge(line))}\n`);
}
