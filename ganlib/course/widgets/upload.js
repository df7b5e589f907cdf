// A file button that sends a file in parts: a notebook server takes no message of more than 10 MB. (Python: upload.py)

const PART = 2 ** 21; // bytes

function render({ model, el }) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  const label = document.createElement("label");
  const note = document.createElement("span");
  note.setAttribute("role", "status");
  label.append("your own: ", input, " ", note);
  el.append(label);

  let waiting = null;
  model.on("msg:custom", (message) => { if (message.received !== undefined && waiting) waiting(message.received); });

  input.onchange = async () => {
    const file = input.files[0];
    if (!file) return;
    input.disabled = true;
    try {
      model.send({ kind: "begin", name: file.name, size: file.size });
      for (let at = 0; at < file.size; at += PART) {
        const part = await file.slice(at, at + PART).arrayBuffer();
        const answer = new Promise((resolve) => { waiting = resolve; });
        model.send({ kind: "part" }, undefined, [part]);
        const received = await answer;
        if (received < 0) break; // refused; Python has said why
        note.textContent = `${Math.round((100 * received) / file.size)} %`;
      }
      model.send({ kind: "end" });
    } finally {
      note.textContent = "";
      input.disabled = false;
      input.value = ""; // so that the same file can be chosen again
    }
  };
}

export default { render };
