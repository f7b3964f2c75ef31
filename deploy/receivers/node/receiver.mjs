// Receives stepup's webhooks: `node receiver.mjs KEYS [PRIVATE_JWKS]`, at http://127.0.0.1:9090/ (PORT is another port).
// KEYS has what verifies, a whsec_ or whpk_ a line; in a rotation the old and the new. PRIVATE_JWKS opens encrypted content.
import {createPublicKey, verify} from 'node:crypto';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {Webhook} from 'standardwebhooks';
import {keep, open, privateKeys, reason} from './event.mjs';

const MAX_BODY = 64 * 1024;
const [keysFile, jwksFile] = process.argv.slice(2);
const verifiers = readFileSync(keysFile, 'utf8').split('\n').map(line => line.trim())
  .filter(line => line && !line.startsWith('#')).map(verifier);
if (verifiers.length === 0) throw new Error(`${keysFile} has no whsec_ or whpk_ line`);
const keys = await privateKeys(jwksFile);

// verifier throws when the signature, or the five minutes around the timestamp, do not hold.
function verifier(line) {
  if (line.startsWith('whpk_')) return v1a(line);
  if (!line.startsWith('whsec_')) throw new Error(`${keysFile}: a line must begin with whsec_ or whpk_`);
  const webhook = new Webhook(line);
  return (body, headers) => webhook.verify(body, headers, {jsonParse: false});
}

// v1a is what the library does not have: ed25519, by a key that only the sender holds.
function v1a(line) {
  const x = Buffer.from(line.slice('whpk_'.length), 'base64').toString('base64url');
  const key = createPublicKey({key: {kty: 'OKP', crv: 'Ed25519', x}, format: 'jwk'});
  return (body, headers) => {
    const {'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures} = headers;
    const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
    const fresh = Math.abs(Date.now() / 1000 - Number(timestamp)) <= 5 * 60;
    const good = signature => signature.startsWith('v1a,')
      && verify(null, signed, key, Buffer.from(signature.slice('v1a,'.length), 'base64'));
    if (!fresh || !signatures.split(' ').some(good)) throw new Error('no signature matches');
  };
}

const verified = (body, headers) => verifiers.some(check => {
  try {
    check(body, headers);
    return true;
  } catch {
    return false;
  }
});

// rawBody is the bytes that were signed: parsing JSON and writing it again gives others. undefined: too many.
async function rawBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request.iterator({destroyOnReturn: false})) {
    size += chunk.length;
    if (size > MAX_BODY) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function receive(request) {
  const body = await rawBody(request);
  if (!body) return 413;
  if (!verified(body, request.headers)) return 401;
  await keep(await open(JSON.parse(body), keys));
  return 204; // only now: after 2xx it is not sent again
}

const server = createServer(async (request, response) => {
  try {
    response.statusCode = await receive(request);
  } catch (err) {
    console.error(reason(err));
    response.statusCode = 500; // not opened or not stored: it is sent again
  }
  if (!request.complete) response.setHeader('Connection', 'close'); // the rest is not read
  response.end();
});
server.requestTimeout = 10_000;
server.listen(process.env.PORT ?? 9090, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
