// What the programs share: how they tell what came of a scenario, and the tool they offer.
import { readFileSync } from "node:fs";

export const [SCENARIO, VARIANT] = process.argv.slice(2);
export const { NEXUS_URL: URL_, MODEL } = process.env;
export const PROMPT = SCENARIO === "tools" ? "read the nexus note" : "say hello";
export const TOOL_NAME = "read_note";
export const TOOL_SAYS = "Reads a note.";
export const SCHEMA = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };

export const readNote = ({ name }) => readFileSync(name, "utf8");
export const tell = (said) => console.log(JSON.stringify(said));

// The stream was given up; go on living, so that it is not the end of this process that closes the connection.
export const leave = () => {
  console.log("left");
  setTimeout(() => {}, 120_000);
};
