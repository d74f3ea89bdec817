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

  // The text just ends where a stream fails: only `onError` hears why.
  async stream() {
    const pieces = [];
    let failed;
    const onError = ({ error }) => (failed = error);
    for await (const piece of streamText({ ...asked, onError }).textStream) pieces.push(piece);
    if (failed) throw failed;
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
