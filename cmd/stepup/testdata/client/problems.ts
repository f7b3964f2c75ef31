import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  acknowledged, ask, asked, bank, becomes, cancelled, control, fetched, nobody, provider, read, settled, stranger, under, waiting, waits,
} from "./bank.js";
import type { components } from "./stepup.js";

const mostWaits = 2500; // of one caller

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

// crowded runs while the bank waits as often as one caller may at once.
async function crowded(run: () => Promise<void>) {
  const { next: after } = await waiting();
  const leave = Array.from({ length: mostWaits + 1 }, () => new AbortController());
  const answers = leave.map(({ signal }) =>
    bank.GET("/v1/events", { params: { query: { after, wait: "60s" } }, signal }).then((answer) => {
      assert(answer.error, "it did not wait");
      return answer;
    }),
  );
  refused(await Promise.any(answers), "rate_limited"); // the one too many
  await run();
  leave.forEach((one) => one.abort());
  await Promise.allSettled(answers);
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
    const at = (answer: Parameters<typeof refused<Problem, "invalid_request">>[0]) => refused(answer, "invalid_request").errors?.map(({ field }) => field);
    const { id } = await cancelled();
    assert.deepEqual(at(await bank.GET("/v1/events", { params: { query: { limit: 101, wait: "61s" } } })), ["limit", "wait"]);
    assert.deepEqual(at(await bank.GET("/v1/events", { params: { query: { after: "somewhere" } } })), ["after"]);
    assert.deepEqual(at(await bank.POST("/v1/events/acknowledge", { body: { ids: ["evt_A", id] } })), ["ids.1"]);
    assert.deepEqual(at(await bank.POST("/v1/redeliveries", { body: { from: "yesterday" } })), ["from"]);
    assert.deepEqual(at(await bank.POST("/v1/redeliveries", { body: { from: "2020-11-21T02:00:00Z", cursor: "somewhere" } })), ["cursor"]);
    assert.deepEqual(at(await bank.GET("/v1/step-ups/{id}/attempts", { params: { path: { id }, query: { limit: 1 } as never } })), ["limit"]);
    return problem;
  },

  async unauthorized() {
    const answer = await nobody.GET("/v1/step-ups");
    assert.equal(answer.response.headers.get("WWW-Authenticate"), "Bearer");
    refused(await nobody.GET("/v1/events"), "unauthorized");
    refused(await nobody.POST("/v1/events/acknowledge", { body: { ids: [] } }), "unauthorized");
    refused(await nobody.POST("/v1/redeliveries", { body: { from: "" } }), "unauthorized");
    refused(await nobody.GET("/v1/step-ups/{id}/attempts", { params: { path: { id: "su_" } } }), "unauthorized");
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
      assert.deepEqual(refused(await bank.GET("/v1/step-ups/{id}/attempts", { params }), "not_found"), problem);
    }
    assert.deepEqual(refused(await bank.GET("/v1/events", { params: { query: { webhook: "nobodys" } } }), "not_found"), problem);
    const body = { from: theirs.created_at, webhook: "nobodys" };
    assert.deepEqual(refused(await bank.POST("/v1/redeliveries", { body }), "not_found"), problem);
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
      await settled(id);
      const event = await waits(id);
      assert(event.event.type === "step_up.approved");
      assert.equal(event.event.data.identity?.uuid, person);
      await acknowledged([event.id]);
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

  async too_large() {
    const long = "4".repeat(16 << 10);
    refused(await bank.POST("/v1/events/acknowledge", { body: { ids: [long] } }), "too_large");
    refused(await bank.POST("/v1/redeliveries", { body: { from: long } }), "too_large");
    return refused(await ask(await control("person"), { metadata: { till: long } }), "too_large");
  },

  async unsupported_media_type() {
    const headers = { "Content-Type": "text/plain" };
    refused(await bank.POST("/v1/events/acknowledge", { body: { ids: ["evt_A"] }, headers }), "unsupported_media_type");
    refused(await bank.POST("/v1/redeliveries", { body: { from: "2020-11-21T02:00:00Z" }, headers }), "unsupported_media_type");
    const answer = await bank.POST("/v1/step-ups", {
      params: { header: { "Idempotency-Key": randomUUID() } },
      body: { provider, login_hint: await control("person") },
      headers,
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
    const { id } = await asked(await control("person"));
    await crowded(async () => {
      refused(await bank.GET("/v1/step-ups/{id}", { params: { path: { id }, query: { wait: "1s" } } }), "rate_limited");
      assert.equal((await read(id)).status, "pending");
      await fetched({});
    });
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
    refused(await bank.GET("/v1/step-ups/{id}/attempts", { params }), "storage_unavailable");
    refused(await bank.GET("/v1/events"), "storage_unavailable");
    refused(await bank.POST("/v1/events/acknowledge", { body: { ids: [`evt_${id.slice(3)}AAAAAAAA`] } }), "storage_unavailable");
    refused(await bank.POST("/v1/redeliveries", { body: { from: "2020-11-21T02:00:00Z" } }), "storage_unavailable");
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
    refused(await bank.POST("/v1/events/acknowledge", { body: { ids: ["evt_A"] } }), "draining");
    await control("release");
    assert.equal((await held).data?.status, "pending");
    return problem;
  },
};
