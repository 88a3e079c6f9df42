// Runs checks in turn. These are other people's clients.
import assert from "node:assert/strict";

export const url = process.env.NSEDGE_URL;
export const model = process.env.NSEDGE_MODEL;
export const embeddings = process.env.NSEDGE_EMBEDDINGS;
export const asked = "Name the capital of France.";
export const messages = [{ role: "user", content: asked }];
export { assert };

/** Print the name of each check that holds. */
export async function run(...checks) {
  for (const check of checks) {
    await check();
    console.log(check.name);
  }
}
