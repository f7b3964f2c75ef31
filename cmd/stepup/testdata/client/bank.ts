// What a caller has at hand: clients over the types, and words for what is done again and again.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./stepup.js";

export type StepUp = components["schemas"]["StepUp"];
export type FetchedEvent = components["schemas"]["FetchedEvent"];

const { STEPUP_URL = "", BANK_KEY = "", STRANGER_KEY = "", CONTROL_URL = "" } = process.env;
export const provider = "singpass";

const api = (headers: Record<string, string>) => createClient<paths>({ baseUrl: STEPUP_URL, headers });
export const bank = api({ Authorization: `Bearer ${BANK_KEY}` });
export const stranger = api({ Authorization: `Bearer ${STRANGER_KEY}` }); // another caller, who may not list; has webhooks of the same names
export const nobody = api({});

// control asks the test for what a caller cannot bring about: what people, providers and operators do.
export async function control(word: string, person = ""): Promise<string> {
  const response = await fetch(`${CONTROL_URL}/do/${word}?person=${person}`, { method: "POST" });
  assert(response.ok, `${word}: ${response.status}`);
  return response.text();
}

type More = Pick<components["schemas"]["CreateStepUp"], "reference" | "metadata">;

export function ask(person: string, more: More = {}, key: string = randomUUID(), by = bank) {
  return by.POST("/v1/step-ups", {
    params: { header: { "Idempotency-Key": key } },
    body: { provider, login_hint: person, ...more },
  });
}

// asked is ask where it must succeed.
export async function asked(...request: Parameters<typeof ask>): Promise<StepUp> {
  const { data, error } = await ask(...request);
  assert(data, JSON.stringify(error));
  return data;
}

export async function read(id: string, wait?: string): Promise<StepUp> {
  const { data, error } = await bank.GET("/v1/step-ups/{id}", { params: { path: { id }, query: wait ? { wait } : {} } });
  assert(data, JSON.stringify(error));
  return data;
}

// settled waits until the step-up is final.
export async function settled(id: string): Promise<StepUp> {
  for (;;) {
    const stepUp = await read(id, "30s");
    if (stepUp.status !== "pending") return stepUp;
  }
}

// becomes reads the step-up until it is as it should be.
export async function becomes(id: string, ok: (stepUp: StepUp) => boolean): Promise<StepUp> {
  for (;;) {
    const stepUp = await read(id);
    if (ok(stepUp)) return stepUp;
    await sleep(20);
  }
}

export const delivered = (times: number) => (stepUp: StepUp) =>
  stepUp.deliveries.some(({ webhook, status, attempts }) => webhook === "ledger" && status === "delivered" && attempts === times);

export async function fetched(query: NonNullable<operations["listEvents"]["parameters"]["query"]>, by = bank) {
  const { data, error } = await by.GET("/v1/events", { params: { query } });
  assert(data, JSON.stringify(error));
  assert(data.events.length <= (query.limit ?? 100));
  return data;
}

// waiting goes through all pages of what was not acknowledged; next is the place after them.
export async function waiting(limit = 100, by = bank): Promise<{ events: FetchedEvent[]; next: string }> {
  const events: FetchedEvent[] = [];
  for (let after: string | undefined; ; ) {
    const page = await fetched(after ? { limit, after } : { limit }, by);
    if (page.events.length === 0) return { events, next: page.next };
    events.push(...page.events);
    after = page.next;
  }
}

// about is the id of an event's step-up.
export const about = ({ event }: FetchedEvent) => ("id" in event.data ? event.data.id : "");

// waits is the event of a final step-up that was not acknowledged.
export async function waits(id: string): Promise<FetchedEvent> {
  const [event, ...more] = (await waiting()).events.filter((event) => about(event) === id);
  assert(event && more.length === 0, `events of ${id}`);
  return event;
}

export async function acknowledged(ids: string[], by = bank) {
  const { data, error } = await by.POST("/v1/events/acknowledge", { body: { ids } });
  assert(data, JSON.stringify(error));
  return data;
}

export async function attempts(id: string) {
  const { data, error } = await bank.GET("/v1/step-ups/{id}/attempts", { params: { path: { id } } });
  assert(data, JSON.stringify(error));
  return data.attempts;
}

// under runs with another configuration.
export async function under<T>(setting: string, run: () => Promise<T>): Promise<T> {
  await control(setting);
  const result = await run();
  await control("usual");
  return result;
}

export async function cancelled(): Promise<StepUp> {
  const { id } = await asked(await control("person"));
  const { data, error } = await bank.POST("/v1/step-ups/{id}/cancel", { params: { path: { id } } });
  assert(data?.status === "cancelled", JSON.stringify(error));
  return data;
}
