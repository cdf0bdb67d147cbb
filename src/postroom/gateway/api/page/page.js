// Sends what the forms of the page hold, and shows the answer as text. No cookie goes along: the key is the one typed in.
"use strict";

async function send(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    if (field.dataset.in === "query" && field.value) query.set(field.name, field.value);
    if (field.dataset.in === "header" && field.value) headers[field.name] = field.value;
  }
  const key = document.getElementById("key").value;
  if (key) headers["Auth-token"] = key;
  const text = form.querySelector("textarea");
  if (text) headers["Content-Type"] = "application/json";
  const asked = query.size ? `?${query}` : "";
  const options = { method: form.dataset.method, headers, credentials: "omit", body: text ? text.value : undefined };
  const answer = await fetch(`.${path}${asked}`, options);
  return `${answer.status} ${answer.statusText}\n\n${pretty(await answer.text())}`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const shown = form.querySelector(".answer");
    shown.hidden = false;
    shown.textContent = await send(form).catch((error) => `no answer: ${error}`);
  });
}
