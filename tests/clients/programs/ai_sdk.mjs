// The AI SDK, by its three providers that can be pointed elsewhere.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { MODEL, PROMPT, SCENARIO, SCHEMA, TOOL_SAYS, URL_, VARIANT, leave, readNote, tell } from "./telling.mjs";

const at = { baseURL: `${URL_}/v1`, apiKey: "anything" };
const model = {
  compatible: () => createOpenAICompatible({ name: "nexus", ...at })(MODEL),
  openai: () => createOpenAI(at).chat(MODEL),
  anthropic: () => createAnthropic(at)(MODEL),
}[VARIANT]();
const asked = { model, prompt: PROMPT, maxRetries: 0 };

const scenarios = {
  async plain() {
    const { text } = await generateText(asked);
    tell({ text });
  },

  async stream() {
    const pieces = [];
    for await (const piece of streamText(asked).textStream) pieces.push(piece);
    tell({ text: pieces.join(""), pieces: pieces.length });
  },

  async tools() {
    const calls = [];
    const execute = (args) => {
      calls.push(args);
      return readNote(args);
    };
    const read_note = tool({ description: TOOL_SAYS, inputSchema: jsonSchema(SCHEMA), execute });
    const { text } = await streamText({ ...asked, tools: { read_note }, stopWhen: stepCountIs(3) });
    tell({ text: await text, called: { name: "read_note", arguments: calls[0] } });
  },

  async error() {
    try {
      await scenarios.plain();
    } catch (problem) {
      if (!APICallError.isInstance(problem)) throw problem;
      tell({ status: problem.statusCode, message: problem.message });
    }
  },

  async abort() {
    const controller = new AbortController();
    const { textStream } = streamText({ ...asked, abortSignal: controller.signal, onAbort() {} });
    for await (const _ of textStream) controller.abort();
    leave();
  },
};
await scenarios[SCENARIO]();
