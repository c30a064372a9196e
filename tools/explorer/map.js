// A map of a latent space: codes or decoded digits below; point, cloud, path and samples on top.
"use strict";

const GRID = 15; // decoded digits per side
const PRIOR_RADIUS = 2;

/** Fill a canvas with pictures of 784 pixels, `columns` side by side, white ink on black. */
function showPictures(canvas, pictures, columns = 1) {
  const rows = Math.ceil(pictures.length / columns);
  if (canvas.width !== 28 * columns) canvas.width = 28 * columns;
  if (canvas.height !== 28 * rows) canvas.height = 28 * rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const colors = new Uint32Array(image.data.buffer);
  pictures.forEach((picture, k) => {
    const corner = Math.floor(k / columns) * 28 * canvas.width + (k % columns) * 28;
    for (let i = 0; i < 784; i++) {
      const gray = Math.round(255 * picture[i]);
      colors[corner + Math.floor(i / 28) * canvas.width + (i % 28)] = 0xff000000 | (gray * 0x010101);
    }
  });
  context.putImageData(image, 0, 0);
}

class LatentMap {
  constructor(canvas, model, pointLabels) {
    Object.assign(this, { canvas, model, pointLabels });
    this.context = canvas.getContext("2d");
    this.background = document.createElement("canvas");
    this.grids = new Map(); // label → canvas; the decoder never changes
  }

  /** Fit the pixels to the size on the screen; true if that changed them. */
  resize() {
    const size = Math.round(this.canvas.clientWidth * window.devicePixelRatio);
    if (size === this.canvas.width) return false;
    for (const canvas of [this.canvas, this.background]) canvas.width = canvas.height = size;
    return true;
  }

  /** Pixels of the canvas per pixel of the page. */
  get unit() {
    return this.canvas.width / this.canvas.clientWidth;
  }

  toPixels(z) {
    const { center, half } = this.model;
    const size = this.canvas.width;
    return [(0.5 + (z[0] - center[0]) / (2 * half)) * size, (0.5 - (z[1] - center[1]) / (2 * half)) * size];
  }

  /** The code at a place of the canvas, given in parts of its width and height. */
  toCode(right, down) {
    const { center, half } = this.model;
    return this.inside([center[0] + (2 * right - 1) * half, center[1] + (1 - 2 * down) * half]);
  }

  /** The nearest code that the map shows. */
  inside(z) {
    const { center, half } = this.model;
    return z.map((value, i) => Math.min(Math.max(value, center[i] - half), center[i] + half));
  }

  drawBackground(view, label, theme) {
    const context = this.background.getContext("2d");
    const size = this.background.width;
    context.clearRect(0, 0, size, size);
    if (view === "digits") {
      context.imageSmoothingQuality = "high";
      context.drawImage(this.grid(label), 0, 0, size, size);
    } else {
      this.drawCodes(context, label, theme);
    }
    this.drawPrior(context, view === "digits" ? "#FFFFFF" : theme.muted);
    this.drawScale(context, view === "digits" ? ["#FFFFFF", "#000000"] : [theme.muted, theme.seam]);
  }

  grid(label) {
    const key = this.model.conditional ? label : null;
    if (!this.grids.has(key)) {
      const canvas = document.createElement("canvas");
      const pictures = Array.from({ length: GRID * GRID }, (_, i) => {
        const z = this.toCode(((i % GRID) + 0.5) / GRID, (Math.floor(i / GRID) + 0.5) / GRID);
        return decode(this.model, z, oneHot(label));
      });
      showPictures(canvas, pictures, GRID);
      this.grids.set(key, canvas);
    }
    return this.grids.get(key);
  }

  drawCodes(context, label, theme) {
    const radius = Math.max(this.background.width / 190, 1.4);
    for (let i = 0; i < this.pointLabels.length; i++) {
      const [x, y] = this.toPixels(this.model.points.slice(2 * i, 2 * i + 2));
      // The conditional model has a map of its own for each digit.
      context.globalAlpha = this.model.conditional && this.pointLabels[i] !== label ? 0.13 : 0.8;
      context.fillStyle = theme.digits[this.pointLabels[i]];
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** The circle of the prior. */
  drawPrior(context, color) {
    if (!this.model.cloudy) return;
    const radius = this.toPixels([PRIOR_RADIUS, 0])[0] - this.toPixels([0, 0])[0];
    context.setLineDash([5 * this.unit, 5 * this.unit]);
    context.strokeStyle = color;
    context.lineWidth = 1.3 * this.unit;
    context.beginPath();
    context.arc(...this.toPixels([0, 0]), radius, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }

  /** Numbers at the ends of the axes. */
  drawScale(context, [color, seam]) {
    const { center, half } = this.model;
    const [size, edge] = [this.background.width, 5 * this.unit];
    const text = (end) => end.toFixed(half < 10 ? 1 : 0).replace("-", "−");
    const places = [
      [text(center[0] - half), "left", edge, size - edge],
      [text(center[0] + half), "right", size - edge, size - edge],
      [text(center[1] + half), "left", edge, 15 * this.unit],
    ];
    Object.assign(context, { font: `${11 * this.unit}px system-ui, sans-serif`, fillStyle: color });
    Object.assign(context, { strokeStyle: seam, lineWidth: 4 * this.unit, lineJoin: "round" });
    for (const [number, textAlign, x, y] of places) {
      context.textAlign = textAlign;
      context.strokeText(number, x, y);
      context.fillText(number, x, y);
    }
  }

  /** Everything that moves. `cloud`, `path` (two codes) and `samples` may be null. */
  draw({ z, cloud, path, samples }, theme) {
    const { context, unit } = this;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.background, 0, 0);
    if (cloud) this.outlined(() => this.ellipse(cloud), 1.8 * unit, theme);
    if (path) {
      this.outlined(() => path.forEach((code) => context.lineTo(...this.toPixels(code))), 2 * unit, theme);
      for (const code of path) this.dot(code, 2.5 * unit, theme);
    }
    if (samples) samples.forEach((sample) => this.dot(sample, 3 * unit, theme));
    else this.crosshair(z, theme);
  }

  ellipse({ mu, logVar }) {
    const radii = Array.from(logVar, (value) => (Math.exp(value / 2) / this.model.half) * this.canvas.width); // 2σ
    this.context.ellipse(...this.toPixels(mu), radii[0], radii[1], 0, 0, 2 * Math.PI);
  }

  /** Its middle is free, so that a small cloud around the point is seen. */
  crosshair(z, theme) {
    const [x, y] = this.toPixels(this.inside(z));
    const [near, far] = [6 * this.unit, 15 * this.unit];
    const arms = () => {
      for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        this.context.moveTo(x + near * right, y + near * down);
        this.context.lineTo(x + far * right, y + far * down);
      }
    };
    this.outlined(arms, 3 * this.unit, theme);
    this.dot(z, 2 * this.unit, theme);
  }

  /** A dot that is seen on white, on black and on other dots, because it has a seam. */
  dot(z, radius, theme) {
    for (const [color, extra] of [[theme.seam, 1.5 * this.unit], [theme.mark, 0]]) {
      this.context.beginPath();
      this.context.arc(...this.toPixels(this.inside(z)), radius + extra, 0, 2 * Math.PI);
      this.context.fillStyle = color;
      this.context.fill();
    }
  }

  /** A line with a seam, likewise. */
  outlined(trace, width, theme) {
    for (const [color, extra] of [[theme.seam, 3 * this.unit], [theme.mark, 0]]) {
      this.context.beginPath();
      trace();
      this.context.strokeStyle = color;
      this.context.lineWidth = width + extra;
      this.context.stroke();
    }
  }
}
