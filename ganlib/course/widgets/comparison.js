// Two versions of a picture: swipe, flicker, side by side; 1:1 and 4x in step; a blind test. (Python: comparison.py)

const FLICKER_MS = 700;
const MODES = { swipe: "Swipe", flicker: "Flicker", beside: "Side by side" };
const TALLEST = 520; // pixels of the stage

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  let urls = [];
  let pan = [0, 0]; // pixels of the picture that lie left of the stage and above it
  let divider = 50; // percent of the stage
  let first = true; // flicker: is the left picture to be seen?

  const modes = element("span", { role: "group", "aria-label": "how to compare" });
  for (const [mode, text] of Object.entries(MODES)) {
    const button = element("button", { type: "button", "data-mode": mode }, text);
    button.onclick = () => { model.set("mode", mode); model.save_changes(); };
    modes.append(button);
  }
  const zooms = element("span", { role: "group", "aria-label": "zoom" });
  for (const zoom of [1, 4]) {
    const button = element("button", { type: "button", "data-zoom": zoom }, zoom === 1 ? "1:1" : "4x");
    button.onclick = () => { model.set("zoom", zoom); model.save_changes(); };
    zooms.append(button);
  }
  const selects = ["left", "right"].map((side) => {
    const select = element("select", { "aria-label": `picture on the ${side}` });
    select.onchange = () => { model.set(side, Number(select.value)); model.save_changes(); };
    return select;
  });
  const blind = element("button", { type: "button", class: "blind" }, "Blind test");
  blind.onclick = () => model.send({ kind: "blind" });
  const bar = element("div", { class: "bar" }, modes, zooms, ...selects, blind);

  const stages = [0, 1].map(() => {
    const layers = [0, 1].map(() => element("img", { draggable: "false" }));
    return { box: element("div", { class: "stage", tabindex: "0" }, ...layers), layers };
  });
  const stage = element("div", { class: "stages" }, stages[0].box, stages[1].box);
  const slide = element("input", { type: "range", min: 0, max: 100, step: 0.5, "aria-label": "divider of the swipe" });
  slide.oninput = () => { divider = Number(slide.value); lay(); };
  const captions = [0, 1].map(() => element("div", { class: "caption" }));
  const below = element("div", { class: "captions" }, ...captions);
  const votes = element("div", { class: "votes" });
  for (const [side, text] of [["left", "A looks better"], ["same", "no difference"], ["right", "B looks better"]]) {
    const button = element("button", { type: "button", "data-side": side }, text);
    button.onclick = () => model.send({ kind: "vote", side });
    votes.append(button);
  }
  const tally = element("div", { class: "tally", role: "status" });
  el.classList.add("ganlib-comparison");
  el.append(bar, stage, slide, below, votes, tally);

  const shown = () => [model.get("left"), model.get("right")];

  function load() {
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = model.get("pngs").map((data) => URL.createObjectURL(new Blob([data], { type: "image/png" })));
    selects.forEach((select) => {
      select.replaceChildren(...model.get("names").map((name, i) => element("option", { value: i }, name)));
    });
    lay();
  }

  function lay() {
    const [mode, zoom, hidden] = [model.get("mode"), model.get("zoom"), model.get("hidden")];
    const [width, height] = model.get("size");
    const [names, facts, pair] = [model.get("names"), model.get("facts"), shown()];
    const two = mode === "beside";
    const room = Math.max(200, (el.clientWidth || 800) - 4);
    const wide = Math.min(width * zoom, two ? Math.floor(room / 2) - 4 : room);
    const tall = Math.min(height * zoom, TALLEST);
    pan = [Math.max(0, Math.min(pan[0], width - wide / zoom)), Math.max(0, Math.min(pan[1], height - tall / zoom))];
    const labels = hidden ? ["A", "B"] : pair.map((i) => names[i]);
    stages.forEach(({ box, layers }, which) => {
      box.style.display = which === 0 || two ? "block" : "none";
      box.style.width = `${wide}px`;
      box.style.height = `${tall}px`;
      layers.forEach((image, i) => {
        const here = two ? which : i;
        if (urls.length) image.src = urls[pair[here]];
        image.alt = `${labels[here]}: ${hidden ? "" : facts[pair[here]]}`;
        image.style.width = `${width * zoom}px`;
        image.style.height = `${height * zoom}px`;
        image.style.transform = `translate(${-pan[0] * zoom}px, ${-pan[1] * zoom}px)`;
        const visible = two ? i === which : mode === "swipe" || (i === 0) === first;
        image.style.visibility = visible ? "visible" : "hidden";
        const cut = pan[0] * zoom + (divider / 100) * wide;
        image.style.clipPath = mode === "swipe" && i === 1 ? `inset(0 0 0 ${cut}px)` : "none";
      });
    });
    slide.style.display = mode === "swipe" ? "block" : "none";
    slide.style.width = `${wide}px`;
    slide.value = divider;
    captions.forEach((caption, i) => {
      const bold = element("b", {}, `${i === 0 ? "left" : "right"}: ${labels[i]}`);
      caption.replaceChildren(bold, element("br"), hidden ? "" : facts[pair[i]]);
      caption.classList.toggle("seen", mode === "flicker" && (i === 0) === first);
    });
    selects.forEach((select, i) => { select.value = pair[i]; select.disabled = hidden; });
    modes.childNodes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
    zooms.childNodes.forEach((button) => button.setAttribute("aria-pressed", Number(button.dataset.zoom) === zoom));
    votes.style.display = hidden ? "flex" : "none";
    blind.textContent = hidden ? "End the test" : "Blind test";
    const counts = Object.entries(model.get("tally"));
    tally.textContent = counts.length ? `Blind tests so far: ${counts.map(([n, k]) => `${n} ${k}`).join(", ")}` : "";
  }

  function drag(down) {
    const start = [down.clientX, down.clientY], from = [...pan], zoom = model.get("zoom");
    const move = (event) => {
      pan = [from[0] - (event.clientX - start[0]) / zoom, from[1] - (event.clientY - start[1]) / zoom];
      lay();
    };
    const up = () => {
      document.removeEventListener("pointermove", move);
      document.removeEventListener("pointerup", up);
    };
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", up);
  }
  const STEPS = { ArrowLeft: [-16, 0], ArrowRight: [16, 0], ArrowUp: [0, -16], ArrowDown: [0, 16] };
  stages.forEach(({ box }) => {
    box.onpointerdown = (event) => { event.preventDefault(); drag(event); };
    box.onkeydown = (event) => {
      if (!STEPS[event.key]) return;
      event.preventDefault();
      event.stopPropagation();
      pan = pan.map((at, i) => at + STEPS[event.key][i]);
      lay();
    };
  });

  const timer = setInterval(() => {
    if (model.get("mode") === "flicker") { first = !first; lay(); }
  }, FLICKER_MS);
  const resized = new ResizeObserver(() => requestAnimationFrame(lay));
  resized.observe(el);
  model.on("change:pngs", load);
  const rest = "change:mode change:zoom change:left change:right change:hidden change:tally change:facts";
  model.on(rest, lay);
  load();
  return () => {
    clearInterval(timer);
    resized.disconnect();
    model.off("change:pngs", load);
    model.off(rest, lay);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
