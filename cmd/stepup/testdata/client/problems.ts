import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { ask, asked, bank, becomes, cancelled, control, nobody, provider, read, settled, stranger } from "./bank.js";
import type { components } from "./stepup.js";

type Problem = components["schemas"]["Problem"];
type Code = Problem["code"];

// The status of each code, as the document's responses tie them together.
type Responses = components["responses"];
type Refusal = { [R in keyof Responses]: Responses[R] extends { content: { "application/problem+json": infer P } } ? P : never }[keyof Responses];
type StatusOf<C extends Code, R = Refusal> = R extends { status: infer S; code: infer D } ? (C extends D ? S : never) : never;

const statuses: { [C in Code]: StatusOf<C> } = {
  invalid_request: 400,
  unauthorized: 401,
  not_found: 404,
  method_not_allowed: 405,
  already_final: 409,
  result_gone: 409,
  idempotency_in_progress: 409,
  too_large: 413,
  unsupported_media_type: 415,
  idempotency_key_reused: 422,
  unknown_user: 422,
  not_eligible: 422,
  provider_rejected: 422,
  rate_limited: 429,
  person_busy: 429,
  person_limited: 429,
  internal: 500,
  provider_error: 502,
  initiation_unknown: 502,
  provider_unavailable: 503,
  storage_unavailable: 503,
  overloaded: 503,
  paused: 503,
  draining: 503,
};

// refused wants this problem and no other; the compiler wants it documented for the operation that answered.
function refused<E extends Problem, C extends E["code"]>(answer: { error?: E; response: Response }, code: C): E & { code: C } {
  const { error, response } = answer;
  assert(error, `${response.status} instead of ${code}`);
  assert.equal(error.code, code, JSON.stringify(error));
  assert.equal(response.status, statuses[code]);
  assert.equal(error.status, response.status);
  assert.equal(error.type, `urn:stepup:problem:${code}`);
  assert.equal(response.headers.get("Content-Type"), "application/problem+json");
  assert(response.headers.get("X-Request-Id"));
  const waits = response.status === 429 || response.status === 503 || code === "idempotency_in_progress";
  assert.match(response.headers.get("Retry-After") ?? "", waits ? /^[1-9][0-9]*$/ : /^$/, code);
  return error as E & { code: C };
}

// under runs with another configuration.
async function under<T>(setting: string, run: () => Promise<T>): Promise<T> {
  await control(setting);
  const result = await run();
  await control("usual");
  return result;
}

// untilRefused asks one person after the other.
async function untilRefused() {
  for (;;) {
    const answer = await ask(await control("person"));
    if (answer.error) return answer;
  }
}

// Every problem that the document has, but for the one that would be a fault of the service.
export const problems: { [C in Exclude<Code, "internal">]: () => Promise<{ code: C }> } = {
  async invalid_request() {
    const problem = refused(await ask("nobody"), "invalid_request");
    assert.deepEqual(problem.errors?.map(({ field }) => field), ["login_hint"]);
    return problem;
  },

  async unauthorized() {
    const answer = await nobody.GET("/v1/step-ups");
    assert.equal(answer.response.headers.get("WWW-Authenticate"), "Bearer");
    return refused(answer, "unauthorized");
  },

  async not_found() {
    const theirs = await asked(await control("person"), {}, randomUUID(), stranger);
    const unknown = `${theirs.id.slice(0, 5)}${"A".repeat(20)}`;
    const problem = refused(await stranger.GET("/v1/step-ups"), "not_found");
    for (const id of [unknown, theirs.id]) {
      const params = { path: { id } };
      assert.deepEqual(refused(await bank.GET("/v1/step-ups/{id}", { params }), "not_found"), problem);
      assert.deepEqual(refused(await bank.POST("/v1/step-ups/{id}/cancel", { params }), "not_found"), problem);
      assert.deepEqual(refused(await bank.POST("/v1/step-ups/{id}/redeliver", { params }), "not_found"), problem);
    }
    return problem;
  },

  async method_not_allowed() {
    // The types have no such call, so it is another one whose method changes on the way.
    const answer = await bank.GET("/v1/step-ups", { fetch: (request) => fetch(new Request(request, { method: "DELETE" })) });
    assert.deepEqual(answer.response.headers.get("Allow")?.split(", ").sort(), ["GET", "POST"]);
    return refused<Problem, "method_not_allowed">(answer, "method_not_allowed");
  },

  async already_final() {
    const { id } = await cancelled();
    const problem = refused(await bank.POST("/v1/step-ups/{id}/cancel", { params: { path: { id } } }), "already_final");
    assert.equal(problem.id, id);
    return problem;
  },

  result_gone: () =>
    under("purge", async () => {
      const person = await control("person");
      const { id } = await asked(person);
      await control("approve", person);
      const purged = await becomes(id, (stepUp) => stepUp.identity_purged_at !== null);
      assert.equal(purged.identity, null);
      return refused(await bank.POST("/v1/step-ups/{id}/redeliver", { params: { path: { id } } }), "result_gone");
    }),

  async idempotency_in_progress() {
    const [person, key] = [await control("person"), randomUUID()];
    await control("hold");
    const twins = [ask(person, {}, key), ask(person, {}, key)];
    const problem = refused(await Promise.race(twins), "idempotency_in_progress");
    await control("release");
    assert.equal((await Promise.all(twins)).filter(({ data }) => data).length, 1);
    return problem;
  },

  too_large: async () => refused(await ask(await control("person"), { metadata: { till: "4".repeat(16 << 10) } }), "too_large"),

  async unsupported_media_type() {
    const answer = await bank.POST("/v1/step-ups", {
      params: { header: { "Idempotency-Key": randomUUID() } },
      body: { provider, login_hint: await control("person") },
      headers: { "Content-Type": "text/plain" },
    });
    return refused(answer, "unsupported_media_type");
  },

  async idempotency_key_reused() {
    const key = randomUUID();
    await asked(await control("person"), {}, key);
    return refused(await ask(await control("person"), {}, key), "idempotency_key_reused");
  },

  unknown_user: async () => refused(await ask(await control("person-unknown")), "unknown_user"),

  not_eligible: async () => refused(await ask(await control("person-barred")), "not_eligible"),

  provider_rejected: async () => refused(await ask(await control("person-rejected")), "provider_rejected"),

  async rate_limited() {
    refused(await under("few-creates", untilRefused), "rate_limited");
    return refused(await under("few-persons", untilRefused), "rate_limited");
  },

  async person_busy() {
    const person = await control("person");
    await asked(person);
    return refused(await ask(person), "person_busy");
  },

  person_limited: () =>
    under("few-pushes", async () => {
      const person = await control("person");
      const { id } = await asked(person);
      await control("deny", person);
      await settled(id);
      return refused(await ask(person), "person_limited");
    }),

  provider_error: async () => refused(await ask(await control("person-of-others")), "provider_error"),

  async initiation_unknown() {
    const problem = refused(await ask(await control("person-cut-off")), "initiation_unknown");
    assert(problem.id);
    const stepUp = await settled(problem.id);
    assert(stepUp.status === "unknown");
    assert.equal(stepUp.reason.code, "initiation_unknown");
    return problem;
  },

  provider_unavailable: async () => refused(await ask(await control("person-unavailable")), "provider_unavailable"),

  async storage_unavailable() {
    const { id } = await asked(await control("person"));
    const params = { path: { id } };
    await control("redis-away");
    refused(await bank.GET("/v1/step-ups/{id}", { params }), "storage_unavailable");
    refused(await bank.GET("/v1/step-ups"), "storage_unavailable");
    refused(await bank.POST("/v1/step-ups/{id}/cancel", { params }), "storage_unavailable");
    refused(await bank.POST("/v1/step-ups/{id}/redeliver", { params }), "storage_unavailable");
    const problem = refused(await ask(await control("person")), "storage_unavailable");
    await control("redis-back");
    assert.equal((await read(id)).status, "pending");
    return problem;
  },

  overloaded: () =>
    under("slow-provider", async () => {
      for (;;) {
        const people = await Promise.all(["person", "person", "person", "person"].map((word) => control(word)));
        const answers = await Promise.all(people.map((person) => ask(person)));
        const answer = answers.find(({ error }) => error);
        if (answer) return refused(answer, "overloaded");
      }
    }),

  paused: () => under("paused", async () => refused(await ask(await control("person")), "paused")),

  async draining() {
    const [first, second] = [await control("person"), await control("person")];
    await control("hold");
    const held = ask(first);
    await control("drain");
    const problem = refused(await ask(second), "draining");
    await control("release");
    assert.equal((await held).data?.status, "pending");
    return problem;
  },
};
