// What the page shows, and what happens when somebody draws, picks, drags or types.
"use strict";

const STEPS_ACROSS_MAP = 40; // of an arrow key; with Shift five times as many
const STRIP = { interpolate: { n: 8, columns: 4 }, sample: { n: 24, columns: 8 } };
const ANNOUNCE_AFTER = 500; // milliseconds: a screen reader says where a movement ended, not every step

const byId = (id) => document.getElementById(id);
const pad = byId("pad");
const data = JSON.parse(byId("data").textContent);
const pointLabels = Array.from(data.pointLabels, Number);
const pickedLabels = Array.from(data.digitLabels, Number);
const grays = bytesOf(data.digits);
const pickedPictures = pickedLabels.map((_, k) =>
  Float32Array.from(grays.subarray(784 * k, 784 * (k + 1)), (gray) => gray / 255),
);

function pickedInput(k) {
  return { x: pickedPictures[k], label: pickedLabels[k], picked: k, strokes: [] };
}

const state = {
  mode: "walk",
  view: "codes",
  active: "start", // which of the two digits the pad and the picker change
  inputs: { start: pickedInput(4), end: pickedInput(2) },
  position: 0.5,
  temperature: 1,
  seed: 1,
};

const cards = data.models.map((packed, k) => {
  const element = document.querySelectorAll(".model")[k];
  const [encoder, decoder] = [packed.encoder, packed.decoder].map((layers) => layers.map(unpackedLayer));
  const model = { ...packed, encoder, decoder, points: floatsOf(packed.points) };
  const map = new LatentMap(element.querySelector(".map"), model, pointLabels);
  return { model, map, element, clouds: {}, z: null, errorInCloud: null, background: null };
});

let theme = readTheme();

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const digits = Array.from({ length: 10 }, (_, digit) => color(`--digit-${digit}`));
  return { mark: color("--mark"), seam: color("--seam"), muted: color("--muted"), digits };
}

// What follows from the state

/** What the conditional decoder is told between two digits: a share of each label. */
function labelAt(position) {
  const { start, end } = state.inputs;
  return mixed(oneHot(start.label), oneHot(end.label), position);
}

/** What it is told about the point of its map. */
function labelNow() {
  return state.mode === "interpolate" ? labelAt(state.position) : oneHot(state.inputs.start.label);
}

/** A digit has changed: its clouds, and the points that follow it. */
function inputChanged(which) {
  const { x, label } = state.inputs[which];
  for (const card of cards) {
    const cloud = encode(card.model, x, oneHot(label));
    card.clouds[which] = cloud;
    if (which === "start" && cloud.logVar) card.errorInCloud = errorInCloud(card.model, x, oneHot(label), cloud);
    goToInput(card);
  }
  redraw();
}

/** Put the point of a map where its digit is, or between its two digits. */
function goToInput(card) {
  const { start, end } = card.clouds;
  card.z = state.mode === "interpolate" ? mixed(start.mu, end.mu, state.position) : Array.from(start.mu);
}

function samplesOf({ model }) {
  return normalPairs(STRIP.sample.n, state.seed).map((epsilon) =>
    model.mean.map((m, i) => m + state.temperature * (model.root[i][0] * epsilon[0] + model.root[i][1] * epsilon[1])),
  );
}

function numbersOf(card) {
  const { x } = state.inputs.start;
  const error = reconstructionError(x, decode(card.model, card.z, labelNow()));
  if (!card.model.cloudy) return { error };
  const kl = klToStandardNormal(card.clouds.start);
  return { error, cloud: card.errorInCloud, kl, nelbo: card.errorInCloud + kl };
}

// Drawing

let scheduled = false;

/** Draw everything in the next frame, once. */
function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    drawAll();
  });
}

function drawAll() {
  for (const card of cards) drawCard(card);
  drawInput();
}

function drawCard(card) {
  const { model, map, element, clouds } = card;
  drawBackground(card);
  const samples = state.mode === "sample" ? samplesOf(card) : null;
  const path = state.mode === "interpolate" ? [clouds.start.mu, clouds.end.mu] : null;
  const cloud = state.mode === "walk" && model.cloudy ? clouds.start : null;
  map.draw({ z: card.z, cloud, path, samples }, theme);
  showPictures(element.querySelector(".decoded"), [decode(model, card.z, labelNow())]);
  const strip = element.querySelector(".strip");
  if (samples) showPictures(strip, samples.map((z) => decode(model, z, labelNow())), STRIP.sample.columns);
  if (path) showPictures(strip, interpolated(card), STRIP.interpolate.columns);
  if (state.mode === "walk") showNumbers(element, numbersOf(card));
}

/** Codes or decoded digits are drawn again when something about them has changed. */
function drawBackground(card) {
  const { label } = state.inputs.start;
  const wanted = [state.view, theme.mark, card.model.conditional && label].join();
  if (!card.map.resize() && card.background === wanted) return;
  card.map.drawBackground(state.view, label, theme);
  card.background = wanted;
}

function interpolated({ model, clouds: { start, end } }) {
  const positions = Array.from({ length: STRIP.interpolate.n }, (_, k) => k / (STRIP.interpolate.n - 1));
  return positions.map((t) => decode(model, mixed(start.mu, end.mu, t), labelAt(t)));
}

function showNumbers(element, numbers) {
  for (const cell of element.querySelectorAll("[data-number]")) {
    cell.textContent = numbers[cell.dataset.number].toFixed(1);
  }
}

function drawInput() {
  const { start, end } = state.inputs;
  const { x, label, picked, strokes } = state.inputs[state.active];
  showPictures(byId("seen"), [x]);
  byId("floor").textContent = reconstructionError(x, x).toFixed(1);
  byId("wanted").value = label;
  document.querySelectorAll("#digits input").forEach((radio, k) => (radio.checked = k === picked));
  drawPad(strokes);
  const [startPicture, endPicture] = document.querySelectorAll(".end .picture");
  showPictures(startPicture, [start.x]);
  showPictures(endPicture, [end.x]);
  showPictures(byId("blend"), [mixed(start.x, end.x, state.position)]);
  byId("position-shown").textContent = state.position.toFixed(2);
  byId("temperature-shown").textContent = state.temperature.toFixed(2);
}

/** The strokes as they were drawn; before the first one, an invitation. */
function drawPad(strokes) {
  const context = pad.getContext("2d");
  context.clearRect(0, 0, pad.width, pad.height);
  Object.assign(context, { lineWidth: pad.width / 14, lineCap: "round", lineJoin: "round", strokeStyle: "#FFFFFF" });
  Object.assign(context, { fillStyle: "#B5B8BE", font: `${pad.width / 13}px system-ui, sans-serif` });
  context.textAlign = "center";
  if (!strokes.length) context.fillText("Draw here", pad.width / 2, pad.height / 2);
  for (const points of strokes) {
    context.beginPath();
    for (const [right, down] of [points[0], ...points]) context.lineTo(right * pad.width, down * pad.height);
    context.stroke();
  }
}

let announcement = 0;

/** Tell a screen reader, when there has been quiet for a moment. */
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => (byId("status").textContent = text()), ANNOUNCE_AFTER);
}

function summary(card) {
  const title = card.element.querySelector("h2").textContent;
  const { error, kl } = numbersOf(card);
  const code = Array.from(card.z, (value) => value.toFixed(2)).join(", ");
  const kls = kl === undefined ? "" : `, KL ${kl.toFixed(1)} nats`;
  return `${title}: code ${code}; error ${error.toFixed(1)} nats${kls}.`;
}

// Events: digits

function setInput(changes) {
  Object.assign(state.inputs[state.active], changes);
  inputChanged(state.active);
  announce(() => cards.map(summary).join(" "));
}

function draw(strokes) {
  setInput({ x: pictureOf(strokes), picked: null, strokes });
}

/** The label under which the conditional model explains a picture best. */
function likeliestLabel(x) {
  const { model } = cards.find((card) => card.model.conditional);
  const nelbo = Array.from({ length: 10 }, (_, label) => {
    const cloud = encode(model, x, oneHot(label));
    return errorInCloud(model, x, oneHot(label), cloud) + klToStandardNormal(cloud);
  });
  return nelbo.indexOf(Math.min(...nelbo));
}

/** Where the pointer is, in parts of an element's width and height. */
function placeIn(element, event) {
  const box = element.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

/** Call `begin` when a pointer goes down on an element, `move` while it is held, and `finish` when it is let go. */
function onDrag(element, begin, move, finish = () => {}) {
  let held = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = event.pointerId;
    element.setPointerCapture(held);
    begin(event);
  });
  element.addEventListener("pointermove", (event) => event.pointerId === held && move(event));
  element.addEventListener("lostpointercapture", () => {
    held = null;
    finish();
  });
}

onDrag(
  pad,
  (event) => draw([...state.inputs[state.active].strokes, [placeIn(pad, event)]]),
  (event) => {
    const { strokes } = state.inputs[state.active];
    strokes.at(-1).push(placeIn(pad, event));
    draw(strokes);
  },
  () => setInput({ label: likeliestLabel(state.inputs[state.active].x) }),
);
byId("clear").addEventListener("click", () => draw([]));
byId("digits").addEventListener("change", (event) => setInput(pickedInput(Number(event.target.value))));
byId("wanted").addEventListener("change", (event) => setInput({ label: Number(event.target.value) }));

// Events: tools

function onChoice(name, chosen) {
  for (const radio of document.getElementsByName(name)) radio.addEventListener("change", () => chosen(radio.value));
}

onChoice("mode", (mode) => {
  Object.assign(state, { mode, active: "start" }); // the digit that all modes have
  document.querySelector("[name=active][value=start]").checked = true;
  document.body.dataset.mode = mode;
  cards.forEach(goToInput);
  redraw();
});
for (const name of ["view", "active"]) {
  onChoice(name, (value) => {
    state[name] = value;
    redraw();
  });
}
byId("position").addEventListener("input", (event) => {
  state.position = Number(event.target.value);
  cards.forEach(goToInput);
  redraw();
});
byId("temperature").addEventListener("input", (event) => {
  state.temperature = Number(event.target.value);
  redraw();
});
byId("again").addEventListener("click", () => {
  state.seed += 1;
  redraw();
});

// Events: maps

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function moveTo(card, z) {
  card.z = card.map.inside(z);
  redraw();
  announce(() => summary(card));
}

for (const card of cards) {
  const { canvas } = card.map;
  const follow = (event) => moveTo(card, card.map.toCode(...placeIn(canvas, event)));
  onDrag(canvas, follow, follow);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Home") goToInput(card);
    else if (!(event.key in ARROWS)) return;
    event.preventDefault();
    const step = ((2 * card.model.half) / STEPS_ACROSS_MAP) * (event.shiftKey ? 0.2 : 1);
    const [right, up] = ARROWS[event.key] ?? [0, 0];
    moveTo(card, [card.z[0] + step * right, card.z[1] + step * up]);
  });
}

// The page as a whole

new ResizeObserver(redraw).observe(document.querySelector(".models"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme = readTheme();
  redraw();
});

document.querySelectorAll("#digits canvas").forEach((canvas, k) => showPictures(canvas, [pickedPictures[k]]));
inputChanged("start");
inputChanged("end");
