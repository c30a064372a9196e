// The arithmetic of the page: dense networks, the terms of the loss in nats, and random numbers.
"use strict";

const ACTIVATIONS = {
  linear: (v) => v,
  relu: (v) => Math.max(v, 0),
  sigmoid: (v) => 1 / (1 + Math.exp(-v)),
  silu: (v) => v / (1 + Math.exp(-v)),
};

// Points of the standard normal and their weights: means of polynomials up to the fifth degree are exact.
const QUADRATURE = [[-Math.sqrt(3), 1 / 6], [0, 2 / 3], [Math.sqrt(3), 1 / 6]];

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/** A dense layer as the page stores it, made ready for `forward`. */
function unpackedLayer(layer) {
  const weights = layer.kernel ? floatsOf(layer.kernel) : scaled(layer.wholeNumbers, floatsOf(layer.scale));
  return { weights, bias: floatsOf(layer.bias), activate: ACTIVATIONS[layer.activation] };
}

/** A kernel from whole numbers of eight bits and a scale for each of its units. */
function scaled(wholeNumbers, scales) {
  const numbers = new Int8Array(bytesOf(wholeNumbers).buffer);
  return Float32Array.from(numbers, (number, i) => number * scales[i % scales.length]);
}

/** The outputs of a stack of dense layers, for one input. */
function forward(layers, input) {
  return layers.reduce((values, { weights, bias, activate }) => {
    const sums = Float64Array.from(bias);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (value === 0) continue; // most pixels of a digit, and many ReLU units
      const row = i * sums.length;
      for (let j = 0; j < sums.length; j++) sums[j] += value * weights[row + j];
    }
    return sums.map(activate);
  }, input);
}

/** Inputs followed by the weights of the ten labels, for a network that is told the label. */
function withLabel(model, values, y) {
  return model.conditional ? [...values, ...y] : values;
}

/** The cloud of codes of a picture: its center `mu`, and `logVar`, or null where a code is a point. */
function encode(model, x, y) {
  const outputs = forward(model.encoder, withLabel(model, x, y));
  return { mu: outputs.slice(0, 2), logVar: outputs.length > 2 ? outputs.slice(2) : null };
}

/** The 784 pixels that a code stands for. */
function decode(model, z, y) {
  return forward(model.decoder, withLabel(model, z, y));
}

/** Binary cross-entropy summed over the pixels; as in Keras, probabilities keep a small distance from 0 and 1. */
function reconstructionError(x, xHat) {
  let nats = 0;
  for (let i = 0; i < x.length; i++) {
    const p = Math.min(Math.max(xHat[i], 1e-7), 1 - 1e-7);
    nats -= x[i] * Math.log(p) + (1 - x[i]) * Math.log(1 - p);
  }
  return nats;
}

function klToStandardNormal({ mu, logVar }) {
  return 0.5 * mu.reduce((sum, m, i) => sum + m * m + Math.exp(logVar[i]) - 1 - logVar[i], 0);
}

/** The mean error over a cloud, from nine of its points (Gauss-Hermite quadrature, three points per axis). */
function errorInCloud(model, x, y, { mu, logVar }) {
  let nats = 0;
  for (const [right, weightRight] of QUADRATURE) {
    for (const [up, weightUp] of QUADRATURE) {
      const z = [mu[0] + Math.exp(logVar[0] / 2) * right, mu[1] + Math.exp(logVar[1] / 2) * up];
      nats += weightRight * weightUp * reconstructionError(x, decode(model, z, y));
    }
  }
  return nats;
}

/** `n` pairs from the standard normal, the same for the same seed (mulberry32 and Box-Muller). */
function normalPairs(n, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Array.from({ length: n }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

function mixed(a, b, t) {
  return Array.from(a, (value, i) => (1 - t) * value + t * b[i]);
}

function oneHot(label) {
  return Array.from({ length: 10 }, (_, digit) => Number(digit === label));
}
