// A client as JavaScript programs write it: posts, and when it is told that it was too fast, waits and posts again.
// node gateway_client.mjs URL KEY COUNT   prints {"ids": [...], "limited": how often, "waited": seconds}
const [url, key, count] = process.argv.slice(2);
const ids = [];
let limited = 0;
let waited = 0;

async function send(number) {
  for (;;) {
    const response = await fetch(`${url}/v1/communicate/email`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Auth-token": key, "Idempotency-Key": `node-${number}` },
      body: JSON.stringify({
        to: [{ email: "john@example.com", type: "to" }],
        subject: `Number ${number}`,
        html: "<p>Hi John</p>",
        attachments: [{ type: "application/pdf", name: "a.pdf", content: Buffer.from("%PDF-1.7") }],
      }),
    });
    const body = await response.json();
    if (response.status === 202) return body.id;
    if (response.status !== 429) throw new Error(`${response.status}: ${JSON.stringify(body)}`);
    const seconds = Number(response.headers.get("Retry-After"));
    const next = (new Date(body.nextValidRequestDate) - Date.now()) / 1000;
    if (!(seconds >= next - 1)) throw new Error(`told ${seconds} s, and ${next} s`);
    limited += 1;
    waited += seconds;
    await new Promise((done) => setTimeout(done, seconds * 1000));
  }
}

for (let number = 0; number < Number(count); number += 1) ids.push(await send(number));
console.log(JSON.stringify({ ids, limited, waited }));
