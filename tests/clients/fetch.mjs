// Node's own fetch: node fetch.mjs SECONDS KEY (URL BODY)...
// All calls side by side; a line for each, in their order: its status, a tab, its body.
// It has no time limit for silence that could be set, only its defaults of 300 s; so SECONDS is for the whole call.
const [seconds, key, ...rest] = process.argv.slice(2);

async function call(url, body) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body,
      signal: AbortSignal.timeout(seconds * 1000),
    });
    return `${answer.status}\t${(await answer.text()).trim()}`;
  } catch (error) {
    return `0\t${error} ${error.cause ?? ""}`;
  }
}

const calls = [];
for (let i = 0; i < rest.length; i += 2) calls.push(call(rest[i], rest[i + 1]));
for (const line of await Promise.all(calls)) console.log(line);
