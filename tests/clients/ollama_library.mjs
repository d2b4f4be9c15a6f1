// The npm package ollama, unchanged, keeps models: node ollama_library.mjs PACKAGES HOST KEY REPOSITORY PUSHED
// One line of JSON: what each of its methods gave, or the error that it threw.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, host, key, repository, pushed] = process.argv.slice(2);
const found = createRequire(pathToFileURL(packages + "/")).resolve("ollama");
const { Ollama } = await import(pathToFileURL(found));
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });

async function statuses(stream) {
  const seen = [];
  for await (const line of await stream) seen.push(line.status);
  return seen;
}

const calls = {
  create: () => client.create({ model: "npm", from: "atelier-shapes", parameters: { steps: 3 } }),
  createStream: () => statuses(client.create({ model: "npm", from: "npm", system: "paint", stream: true })),
  copy: () => client.copy({ source: "npm", destination: pushed }),
  list: async () => (await client.list()).models.map((each) => each.name),
  push: () => client.push({ model: pushed }),
  pushStream: () => statuses(client.push({ model: pushed, stream: true })),
  pull: () => client.pull({ model: repository }),
  pullStream: () => statuses(client.pull({ model: repository, stream: true })),
  delete: () => client.delete({ model: pushed }),
  missing: () => client.delete({ model: pushed }),
  wrong: () => client.create({ model: "npm", from: "atelier-shapes", parameters: { steps: 0 }, stream: true }),
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
