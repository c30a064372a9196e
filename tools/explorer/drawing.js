// From the strokes of a pen to a picture like those of MNIST: 20 pixels high or wide, around its center of mass.
"use strict";

const PEN_RADIUS = 1.2; // in pixels of the picture, about that of MNIST's pens
const PEN_EDGE = 1.3; // over this distance the ink fades
const BOX = 20 - 2 * PEN_RADIUS;
const SMALLEST_DRAWING = 0.25; // of the drawing area: a dot stays a dot

function distanceToSegment(x, y, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.min(Math.max(along, 0), 1);
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

/** The rows or columns, as [first, last], that a line between two coordinates can leave ink in. */
function reached(a, b) {
  const reach = PEN_RADIUS + PEN_EDGE;
  return [Math.max(Math.floor(Math.min(a, b) - reach), 0), Math.min(Math.floor(Math.max(a, b) + reach), 27)];
}

/** Ink in 28 × 28 pixels of strokes whose points are in units of pixels. */
function inked(strokes) {
  const x = new Float32Array(784);
  for (const points of strokes) {
    points.forEach((end, i) => {
      const start = points[Math.max(i - 1, 0)];
      const [[left, right], [top, bottom]] = [0, 1].map((axis) => reached(start[axis], end[axis]));
      for (let row = top; row <= bottom; row++) {
        for (let column = left; column <= right; column++) {
          const distance = distanceToSegment(column + 0.5, row + 0.5, start, end);
          const ink = Math.min((PEN_RADIUS + PEN_EDGE / 2 - distance) / PEN_EDGE, 1);
          x[28 * row + column] = Math.max(x[28 * row + column], ink);
        }
      }
    });
  }
  return x;
}

function centerOfMass(x) {
  const ink = x.reduce((sum, value) => sum + value, 0);
  const mean = (coordinate) => x.reduce((sum, value, i) => sum + value * coordinate(i), 0) / ink;
  return [mean((i) => (i % 28) + 0.5), mean((i) => Math.floor(i / 28) + 0.5)];
}

/** Strokes, lists of points in [0, 1]², as 784 pixels. */
function pictureOf(strokes) {
  const points = strokes.flat();
  if (!points.length) return new Float32Array(784);
  const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const scale = BOX / Math.max(right - left, bottom - top, SMALLEST_DRAWING);
  const placed = (cx, cy) =>
    inked(strokes.map((stroke) => stroke.map(([x, y]) => [14 + (x - cx) * scale, 14 + (y - cy) * scale])));
  const [middleX, middleY] = [(left + right) / 2, (top + bottom) / 2];
  const [massX, massY] = centerOfMass(placed(middleX, middleY));
  return placed(middleX + (massX - 14) / scale, middleY + (massY - 14) / scale);
}
