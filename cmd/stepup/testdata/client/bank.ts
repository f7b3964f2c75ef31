// What a caller has at hand: clients over the types, and words for what is done again and again.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./stepup.js";

export type StepUp = components["schemas"]["StepUp"];

const { STEPUP_URL = "", BANK_KEY = "", STRANGER_KEY = "", CONTROL_URL = "" } = process.env;
export const provider = "singpass";

const api = (headers: Record<string, string>) => createClient<paths>({ baseUrl: STEPUP_URL, headers });
export const bank = api({ Authorization: `Bearer ${BANK_KEY}` });
export const stranger = api({ Authorization: `Bearer ${STRANGER_KEY}` }); // another caller, who may not list
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

export async function cancelled(): Promise<StepUp> {
  const { id } = await asked(await control("person"));
  const { data, error } = await bank.POST("/v1/step-ups/{id}/cancel", { params: { path: { id } } });
  assert(data?.status === "cancelled", JSON.stringify(error));
  return data;
}
