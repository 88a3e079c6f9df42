// Vercel's ai over OpenAI's responses and chat, and Anthropic's messages: its first examples.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { asked, assert, embeddings, model, run, url } from "./checking.mjs";

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const compatible = createOpenAICompatible({
  name: "local",
  baseURL: `${url}/v1`,
  supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" });
const models = [openai(model), openai.chat(model), compatible(model), anthropic(model)];
const greedy = { prompt: asked, maxOutputTokens: 24, temperature: 0, maxRetries: 0 };

async function generate() {
  for (const one of models) {
    const told = await generateText({ model: one, ...greedy });
    assert.ok(told.text);
    assert.ok(told.usage.outputTokens > 0);
  }
}

async function streamed() {
  for (const one of models) {
    const whole = (await generateText({ model: one, ...greedy })).text;
    const pieces = [];
    for await (const piece of streamText({ model: one, ...greedy }).textStream) pieces.push(piece);
    assert.ok(pieces.length > 2);
    assert.equal(pieces.join(""), whole);
  }
}

async function structured() {
  const schema = z.object({ capital: z.string().max(20) });
  for (const one of [openai(model), openai.chat(model), compatible(model)]) {
    const told = await generateObject({ model: one, schema, ...greedy, maxOutputTokens: 64 });
    assert.equal(typeof told.object.capital, "string");
  }
}

async function tools() {
  const weather = tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string().max(20) }),
  });
  for (const one of models) {
    const told = await generateText({
      model: one,
      ...greedy,
      maxOutputTokens: 64,
      tools: { weather },
      toolChoice: { type: "tool", toolName: "weather" },
    });
    assert.equal(told.toolCalls[0].toolName, "weather");
    assert.equal(typeof told.toolCalls[0].input.city, "string");
  }
}

async function vectors() {
  for (const one of [
    openai.embeddingModel?.(embeddings) ?? openai.textEmbeddingModel(embeddings),
    compatible.textEmbeddingModel(embeddings),
  ]) {
    const told = await embedMany({ model: one, values: ["a", "b"] });
    assert.deepEqual(told.embeddings.map((vector) => vector.length), [384, 384]);
  }
}

async function aborted() {
  for (const one of models) {
    const controller = new AbortController();
    const told = streamText({
      model: one,
      ...greedy,
      prompt: "Write a long story about a river and its towns.",
      maxOutputTokens: 400,
      abortSignal: controller.signal,
    });
    for await (const part of told.fullStream) if (part.type === "text-delta") controller.abort();
  }
  assert.ok((await generateText({ model: models[0], ...greedy })).text);
}

async function errors() {
  for (const none of [openai("none"), compatible("none"), anthropic("none")]) {
    await assert.rejects(generateText({ model: none, ...greedy }), (error) => {
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, 404);
      return true;
    });
  }
}

await run(generate, streamed, structured, tools, vectors, aborted, errors);
