// OpenAI's own client for JavaScript: node openai.mjs FOLDER ADDRESS KEY PICTURE MASK
// FOLDER holds node_modules. One JSON object: what each of its calls for pictures gave.
import { createRequire } from "node:module";
import { createReadStream } from "node:fs";
const [folder, baseURL, apiKey, picture, mask] = process.argv.slice(2);
const { OpenAI } = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const extras = { seed: 7, steps: 2 };
const told = {};

const made = await client.images.generate({ prompt: "a red circle", n: 2, response_format: "b64_json", ...extras });
told.generated = made.data.map(({ b64_json, seed }) => [b64_json.slice(0, 8), seed]);

const stream = await client.images.generate({ prompt: "a red circle", stream: true, partial_images: 1, ...extras });
for await (const event of stream) told.last = event.type;

const images = [createReadStream(picture), createReadStream(picture)];
const edited = await client.images.edit({ image: images, mask: createReadStream(mask), prompt: "a star", ...extras });
told.edited = edited.data[0].url.split("?")[0].split(".").at(-1);

const varied = await client.images.createVariation({ image: createReadStream(picture), ...extras });
told.varied = varied.data[0].seed;

told.models = [];
for await (const model of client.models.list()) told.models.push(model.id);
told.model = (await client.models.retrieve("atelier-shapes:latest")).object;
told.refused = await client.models.retrieve("x/z-image:latest").catch(({ status, code }) => [status, code]);
console.log(JSON.stringify(told));
