// A CIBA provider in poll mode that is not ours: npm oidc-provider on loopback.
//
//   node provider.mjs --client-jwks '{"keys":[…public keys…]}' [--client-id bank] [--port 0]
//        [--enc A256CBC-HS512|A256GCM|none] [--alg ECDH-ES+A256KW] [--expires 120] [--issuer URL] [--expect-stdin]
//
// It prints one line, {"listening":"http://127.0.0.1:PORT","control":"http://127.0.0.1:PORT"},
// and serves until it is ended; --issuer names it by another URL, for a proxy in front of it; with --expect-stdin also until standard input closes, so that
// it never outlives the test that started it.
//
// Login hints are accounts. A hint that begins with
//   nobody   is unknown                                  unknown_user_id
//   foreign  may not use this client                     access_denied at the backchannel endpoint
//   other    is answered by somebody else                sub is "somebody-else"
//
// The control listener is the phone, and the witness:
//   POST /approve?login_hint=…[&acr=…]    POST /deny?login_hint=…     204; 404 while nothing waits
//   GET  /seen?login_hint=…               what was asked for this hint, as JSON
import http from 'node:http';
import {parseArgs} from 'node:util';
import {generateKeyPairSync} from 'node:crypto';
import Provider, {errors} from 'oidc-provider';
import {Store} from './store.mjs';

const {values: args} = parseArgs({options: {
  port: {type: 'string', default: '0'},
  'client-id': {type: 'string', default: 'bank'},
  'client-jwks': {type: 'string'},
  enc: {type: 'string', default: 'A256CBC-HS512'},
  alg: {type: 'string', default: 'ECDH-ES+A256KW'},
  expires: {type: 'string', default: '120'}, // seconds that a request stands
  issuer: {type: 'string'}, // default: where it listens
  'expect-stdin': {type: 'boolean', default: false},
}});
if (!args['client-jwks']) {
  console.error('provider.mjs: --client-jwks must be the client\'s public keys as a JWKS');
  process.exit(2);
}
const expires = Number(args.expires);
const cibaGrant = 'urn:openid:params:grant-type:ciba';
const acrs = ['urn:stepup:peers:phone', 'urn:stepup:peers:card'];

// What happened, by login hint: {request: the newest, pushes: [ms], polls: [{auth_req_id, at, done, status, error}]}.
const hints = new Map();
const hintOf = new Map(); // auth_req_id -> login hint; the provider forgets a request that was redeemed twice

function seenOf(hint) {
  if (!hints.has(hint)) hints.set(hint, {request: null, pushes: [], polls: []});
  return hints.get(hint);
}

// Real key ids contain slashes.
function signingKey() {
  const {privateKey} = generateKeyPairSync('ec', {namedCurve: 'P-256'});
  return {...privateKey.export({format: 'jwk'}), use: 'sig', kid: 'peers/es256/1'};
}

function client() {
  const c = {
    client_id: args['client-id'],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: JSON.parse(args['client-jwks']),
    grant_types: [cibaGrant],
    response_types: [],
    redirect_uris: [],
    backchannel_token_delivery_mode: 'poll',
    id_token_signed_response_alg: 'ES256',
  };
  if (args.enc !== 'none') {
    c.id_token_encrypted_response_alg = args.alg;
    c.id_token_encrypted_response_enc = args.enc;
  }
  return c;
}

const ciba = {
  enabled: true,
  deliveryModes: ['poll'],
  async processLoginHint(ctx, hint) {
    if (hint.startsWith('nobody')) return undefined;
    if (hint.startsWith('foreign')) throw new errors.AccessDenied('may not use this client');
    return hint.startsWith('other') ? 'somebody-else' : hint;
  },
  async processLoginHintToken() {
    return undefined;
  },
  async verifyUserCode() {},
  async validateBindingMessage(ctx, message) {
    if (message !== undefined && !/^[A-Za-z0-9 ._+/!?#-]{1,20}$/.test(message)) {
      throw new errors.InvalidBindingMessage('1 to 20 plain characters');
    }
  },
  async validateRequestContext() {},
  async triggerAuthenticationDevice(ctx, request) {
    const hint = request.params.login_hint ?? request.accountId;
    hintOf.set(request.jti, hint);
    const seen = seenOf(hint);
    seen.request = request.jti;
    seen.pushes.push(Date.now());
  },
};

const configuration = {
  adapter: Store,
  clients: [client()],
  jwks: {keys: [signingKey()]},
  acrValues: acrs,
  claims: {openid: ['sub', 'acr', 'amr', 'auth_time']},
  scopes: ['openid'],
  responseTypes: [],
  enabledJWA: {
    clientAuthSigningAlgValues: ['ES256'],
    idTokenSigningAlgValues: ['ES256'],
    idTokenEncryptionAlgValues: ['ECDH-ES+A128KW', 'ECDH-ES+A192KW', 'ECDH-ES+A256KW'],
    idTokenEncryptionEncValues: ['A256CBC-HS512', 'A256GCM'],
  },
  clientAuthMethods: ['private_key_jwt'],
  features: {ciba, devInteractions: {enabled: false}, encryption: {enabled: true}},
  async findAccount(ctx, id) {
    return {accountId: id, claims: async () => ({sub: id})};
  },
  ttl: {
    BackchannelAuthenticationRequest: (ctx, request) => Math.min(Number(request.params.requested_expiry ?? expires), expires),
    Grant: 600, AccessToken: 600, IdToken: 600,
  },
};

// witness notes each token request with its times, for GET /seen.
async function witness(ctx, next) {
  const at = Date.now();
  await next();
  const id = ctx.oidc?.params?.auth_req_id;
  if (ctx.oidc?.route !== 'token' || !hintOf.has(id)) return;
  seenOf(hintOf.get(id)).polls.push({auth_req_id: id, at, done: Date.now(), status: ctx.status, error: ctx.body?.error ?? ''});
}

// answer is the person: it approves or denies the newest request for a hint.
async function answer(provider, verb, hint, acr) {
  const seen = hints.get(hint);
  const request = seen?.request && await provider.BackchannelAuthenticationRequest.find(seen.request);
  if (!request || request.isExpired || request.grantId || request.error) return 404;
  if (verb === 'deny') {
    await provider.backchannelResult(request, new errors.AccessDenied('the person said no'));
    return 204;
  }
  const grant = new provider.Grant({accountId: request.accountId, clientId: request.clientId});
  grant.addOIDCScope(request.scope);
  await grant.save();
  await provider.backchannelResult(request, grant, {
    acr: acr ?? request.params.acr_values?.split(' ')[0] ?? acrs[0],
    amr: ['swk', 'user'],
    authTime: Math.floor(Date.now() / 1000),
  });
  return 204;
}

function control(provider) {
  return http.createServer(async (req, res) => {
    const url = new URL(req.url, 'http://127.0.0.1');
    const hint = url.searchParams.get('login_hint') ?? '';
    const route = `${req.method} ${url.pathname}`;
    try {
      if (route === 'GET /seen') {
        const {pushes, polls} = hints.get(hint) ?? {pushes: [], polls: []};
        res.setHeader('content-type', 'application/json').end(JSON.stringify({pushes, polls}));
      } else if (route === 'POST /approve' || route === 'POST /deny') {
        const status = await answer(provider, url.pathname.slice(1), hint, url.searchParams.get('acr') ?? undefined);
        res.writeHead(status).end();
      } else {
        res.writeHead(404).end();
      }
    } catch (err) {
      console.error(err);
      res.writeHead(500).end();
    }
  });
}

function listen(server, port) {
  // Longer than any poll interval: Node's 5 s would close a connection just as the next poll goes out on it.
  server.keepAliveTimeout = 75_000;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

// The issuer holds the port, so the listener comes first and the provider after it.
const front = http.createServer();
const listening = await listen(front, Number(args.port));
const provider = new Provider(args.issuer ?? listening, configuration);
provider.use(witness);
provider.on('server_error', (ctx, err) => console.error(err));
for (const event of ['backchannel_authentication.error', 'grant.error']) {
  provider.on(event, (ctx, err) => {
    if (err.error !== 'authorization_pending') console.error(`${event}: ${err.error}: ${err.error_detail ?? err.error_description ?? ''}`);
  });
}
front.on('request', provider.callback());
const phone = await listen(control(provider), 0);

if (args['expect-stdin']) {
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
}
console.log(JSON.stringify({listening, control: phone}));
