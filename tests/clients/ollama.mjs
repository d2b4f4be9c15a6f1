// The npm package ollama, unchanged: node ollama.mjs PACKAGES HOST KEY PICTURE
// One line of JSON: what each of its methods gave, or the error that it threw.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, host, key, picture] = process.argv.slice(2);
const found = createRequire(pathToFileURL(packages + "/")).resolve("ollama");
const { Ollama } = await import(pathToFileURL(found));
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });
const asked = { model: "atelier-shapes", prompt: "a red circle", width: 64, height: 64, steps: 2 };

async function lines(stream) {
  const seen = [];
  for await (const line of stream) seen.push(line);
  return seen;
}

const calls = {
  version: () => client.version(),
  list: () => client.list(),
  show: () => client.show({ model: "atelier-shapes" }),
  generate: () => client.generate({ ...asked, options: { seed: 7 } }),
  stream: async () => lines(await client.generate({ ...asked, options: { seed: 7 }, stream: true })),
  edit: () => client.generate({ ...asked, images: [picture], options: { strength: 0.5 } }),
  ps: () => client.ps(),
  load: () => client.generate({ model: "atelier-shapes", keep_alive: -1 }),
  unload: () => client.generate({ model: "atelier-shapes", prompt: "", keep_alive: 0 }),
  chat: () => client.chat({ model: "atelier-shapes", messages: [{ role: "user", content: "hello" }] }),
  embed: () => client.embed({ model: "atelier-shapes", input: "hello" }),
  embeddings: () => client.embeddings({ model: "atelier-shapes", prompt: "hello" }),
  unknown: () => client.generate({ model: "nothing", prompt: "x", stream: true }),
};

const told = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    told[name] = await call();
  } catch (error) {
    told[name] = { thrown: error.message, status: error.status_code };
  }
}
console.log(JSON.stringify(told));
