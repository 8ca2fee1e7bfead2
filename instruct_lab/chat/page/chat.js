/* The chat: sends each message to every column's model and writes the streamed answers. Texts are never read as markup. */
(() => {
  const byId = (id) => document.getElementById(id);
  const columns = [...document.querySelectorAll(".column")].map((section) => ({
    index: Number(section.dataset.column), box: section.querySelector(".messages"), messages: [],
  }));
  const NUMBERS = ["temperature", "top_p", "max_new_tokens", "seed"];
  let stopper = null;

  /** Apply a change to the page; if its end was in view and the columns are side by side, scroll to the new end. */
  function follow(change) {
    const page = document.scrollingElement, isAtEnd = page.scrollTop + innerHeight >= page.scrollHeight - 40;
    const result = change(), areBeside = columns[0].box.offsetTop === columns[columns.length - 1].box.offsetTop;
    if (isAtEnd && areBeside) page.scrollTop = page.scrollHeight;
    return result;
  }

  function add(column, kind, text) {
    const element = document.createElement("div");
    element.className = kind;
    element.textContent = text;
    follow(() => column.box.append(element));
    return element;
  }

  function decoding() {
    const values = {};
    for (const name of NUMBERS) if (byId(name).value !== "") values[name] = Number(byId(name).value);
    return values;
  }

  async function readLines(body, onLine) {
    const reader = body.getReader(), decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) onLine(JSON.parse(line));
    }
  }

  async function ask(column, text, settings, signal) {
    const messages = [...column.messages, { role: "user", content: text }];
    add(column, "message user", text);
    const element = add(column, "message assistant waiting", "");
    let answer = "", failure = null, note = "";
    try {
      const response = await fetch("/answer", {
        method: "POST", headers: { "Content-Type": "application/json" }, signal,
        body: JSON.stringify({ column: column.index, messages, ...settings }),
      });
      if (!response.ok) failure = await response.text();
      else await readLines(response.body, (line) => {
        if ("text" in line) { answer += line.text; follow(() => { element.textContent = answer; }); }
        else if ("note" in line) add(column, "note", line.note);
        else if ("error" in line) failure = line.error;
        else if (line.end === "cut") note = "The answer ended at the length limit.";
      });
    } catch (error) {
      if (error.name === "AbortError") note = "Stopped.";
      else failure = "The program on this machine does not answer. Is it still running?";
    }
    element.classList.remove("waiting");
    if (failure !== null) {
      if (!answer) element.remove();
      add(column, "note error", failure);
      return;
    }
    if (note) add(column, "note", note);
    column.messages = [...messages, { role: "assistant", content: answer }];
  }

  async function send() {
    const text = byId("message").value;
    if (!text.trim() || stopper) return;
    const wrong = NUMBERS.map(byId).find((input) => !input.checkValidity());
    if (wrong) {
      byId("settings").open = true;
      wrong.reportValidity();
      return;
    }
    byId("message").value = "";
    stopper = new AbortController();
    byId("send").disabled = byId("reset").disabled = true;
    byId("stop").disabled = false;
    const settings = { system: byId("system").value || null, decoding: decoding() };
    await Promise.all(columns.map((column) => ask(column, text, settings, stopper.signal)));
    stopper = null;
    byId("send").disabled = byId("reset").disabled = false;
    byId("stop").disabled = true;
    byId("message").focus();
  }

  byId("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  byId("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  byId("stop").addEventListener("click", () => stopper && stopper.abort());
  byId("reset").addEventListener("click", () => {
    for (const column of columns) { column.messages = []; column.box.replaceChildren(); }
  });
  byId("message").focus();
})();
