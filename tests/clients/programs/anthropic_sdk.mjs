// Anthropic's SDK for JavaScript.
import Anthropic from "@anthropic-ai/sdk";
import { MODEL, PROMPT, SCENARIO, SCHEMA, TOOL_NAME, TOOL_SAYS, leave, readNote, tell } from "./telling.mjs";

const client = new Anthropic();
const messages = [{ role: "user", content: PROMPT }];
const asked = { model: MODEL, max_tokens: SCENARIO === "abort" ? 60_000 : 200, messages };
const tools = [{ name: TOOL_NAME, description: TOOL_SAYS, input_schema: SCHEMA }];

const scenarios = {
  async plain() {
    const { input_tokens } = await client.messages.countTokens({ model: MODEL, messages });
    if (!input_tokens) throw new Error("no count");
    const answer = await client.messages.create(asked);
    tell({ text: answer.content[0].text });
  },

  async stream() {
    const pieces = [];
    const stream = client.messages.stream(asked);
    stream.on("text", (delta) => pieces.push(delta));
    const { usage } = await stream.finalMessage();
    if (!usage.output_tokens) throw new Error("no usage");
    tell({ text: pieces.join(""), pieces: pieces.length });
  },

  async tools() {
    const { content, stop_reason } = await client.messages.stream({ ...asked, tools }).finalMessage();
    if (stop_reason !== "tool_use") throw new Error(`stopped for ${stop_reason}`);
    const [call] = content.filter((block) => block.type === "tool_use");
    const result = { type: "tool_result", tool_use_id: call.id, content: readNote(call.input) };
    const turns = [...messages, { role: "assistant", content }, { role: "user", content: [result] }];
    const answer = await client.messages.create({ ...asked, tools, messages: turns });
    tell({ text: answer.content[0].text, called: { name: call.name, arguments: call.input } });
  },

  async error() {
    try {
      await client.messages.create(asked);
    } catch (problem) {
      if (!(problem instanceof Anthropic.NotFoundError)) throw problem;
      if (problem.error.error.type !== "not_found_error") throw new Error("another type of error", { cause: problem });
      tell({ status: problem.status, message: problem.message });
    }
  },

  async abort() {
    const events = await client.messages.create({ ...asked, stream: true });
    for await (const event of events) if (event.type === "content_block_delta") break;
    leave();
  },
};
await scenarios[SCENARIO]();
