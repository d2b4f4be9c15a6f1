// Vercel's AI SDK with its provider for OpenAI: node ai_sdk.mjs FOLDER ADDRESS KEY PICTURE MASK
// FOLDER holds node_modules. One JSON object: how many pictures of which kind each call gave, and its warnings.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const [folder, baseURL, apiKey, picture, mask] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { generateImage } = require("ai");
const openai = require("@ai-sdk/openai").createOpenAI({ baseURL, apiKey });
const told = {};

async function asked(name, model, prompt, more) {
  const providerOptions = { openai: { quality: "low" } };
  const made = await generateImage({ model: openai.image(model), prompt, providerOptions, maxRetries: 0, ...more });
  told[name] = [made.images.length, made.images[0].mediaType, made.warnings.length];
}

await asked("a checkpoint", "atelier-shapes", "a red circle", { n: 2, size: "64x64" });
await asked("a name of OpenAI's", "gpt-image-1", "a red circle", {});
const given = { text: "a yellow star", images: [readFileSync(picture)], mask: readFileSync(mask) };
await asked("an edit", "gpt-image-1", given, {});
console.log(JSON.stringify(told));
