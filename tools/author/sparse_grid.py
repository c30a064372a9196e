"""The sweeps of lesson 04: every code of the lesson with a grid of strengths and learning rates, and what a probe reads.

One-layer autoencoders of the same kind are trained side by side, as slices of one array: Adam treats each number on its
own, so each of them learns as it would alone. `tests/lessons/test_lesson_04.py` compares them with the lesson's layers.
"""

import numpy as np

from course_utils import lessons
from course_utils.backend import keras
from course_utils.data import load_mnist
from course_utils.lessons import bernoulli_kl, build_autoencoder, build_strokes, describe_code, stroke_windows
from course_utils.pretrained import load_pretrained, pretrained_names
from course_utils.training import warm_up_and_cosine

ops = keras.ops

N_CODE = 1024
SAMPLE = 5000  # training digits on which statistics of a code are taken
MATCHED = 300  # units that a matched code keeps, of `N_CODE`
N_PARTS = 2048  # of the strokes and of what they are compared with
MATCHED_PARTS = 600

# Kind of code → the learning rates that each of its strengths is tried with in the lesson's own training.
LIVE_RATES = {
    "L1": (0.002, 0.004, 0.008, 0.016, 0.032),
    "KL": (0.0075, 0.015, 0.03, 0.06, 0.12),
    "top-k": (0.005, 0.01, 0.02, 0.04, 0.08),
}
# Kind of code → its strengths, and the learning rates that each of them is tried with. For KL: (rho, beta).
LIVE_GRID = {
    "L1": ((0.0, 3e-4), LIVE_RATES["L1"]),
    "KL": (((0.05, 0.003),), LIVE_RATES["KL"]),
    "top-k": ((50,), LIVE_RATES["top-k"]),
}
GRID = {  # each kind without any sparsity, too: strength 0, or all units kept
    "L1": ((0.0, 1e-4, 3e-4, 1e-3), (0.008, 0.016)),
    "KL": (((0.05, 0.0), (0.05, 0.001), (0.05, 0.003), (0.05, 0.01)), (0.03,)),
    "top-k": ((12, 25, 50, N_CODE), (0.02,)),
}
RHO_GRID = {"KL": (((0.005, 0.003), (0.01, 0.003), (0.02, 0.003)), (0.015, 0.03))}
FEW_DIGITS_GRID = {
    "L1": ((0.0, 3e-4), (0.008, 0.016)),
    "KL": (((0.05, 0.0), (0.05, 0.003)), (0.03,)),
    "top-k": ((25,), (0.02,)),
}
DENSE_SIZES = [784, 384, 32]  # lesson 01's deep autoencoder
DENSE_RATE = 0.004
PROBE_RATE = 0.003
PROBE_DECAYS = (1e-6, 1e-5, 1e-4, 1e-3)

# What the curves are made with, for their readers. They are sized for a few minutes each on one CPU core.
LIVE = {
    **{"digits": 20_000, "batch_size": 64, "units": N_CODE},
    "learning_rates": {kind: list(rates) for kind, rates in LIVE_RATES.items()},
}
TRADEOFF = {
    **{
        "digits": 55_000,
        "batch_size": 64,
        "units": N_CODE,
        "learning_rates": {"L1": [0.008, 0.016], "KL": [0.03], "top-k": [0.02]},
    },
    "strengths": {kind: list(strengths) for kind, (strengths, _) in GRID.items()},
    "dense": {"sizes": DENSE_SIZES, "learning_rate": DENSE_RATE},
    **{"probe_digits": 10_000, "probe_epochs": 4, "probe_batch_size": 100, "matched": MATCHED, "parts": N_PARTS},
}
RHO = {
    **{key: TRADEOFF[key] for key in ("digits", "batch_size", "units")},
    "learning_rates": list(RHO_GRID["KL"][1]),
    "strengths": list(RHO_GRID["KL"][0]),
}
RANDOM_SIGMOID = {  # the standard deviations of the weights: the first is that of the lesson's layers before training
    "spreads": (0.1, 0.3, 1.0, 3.0),
    "bias": "that of 5 % mean activation",
    **{key: TRADEOFF[key] for key in ("units", "probe_digits", "probe_epochs", "probe_batch_size")},
}
OVERFIT = {
    "steps": 1000,
    "batch_size": 50,
    "units": N_CODE,
    "learning_rates": {"L1": [0.008, 0.016], "KL": [0.03], "top-k": [0.02]},
}


class Codes(keras.layers.Layer):
    """Autoencoders 784 → `N_CODE` → 784 of one kind, one for each of `strengths`; adds their losses."""

    def __init__(self, kind: str, strengths: tuple, rates: tuple, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.strengths, self.rates = kind, strengths, rates
        self.statistics = None

    def build(self, shape):
        n, pixels = len(self.strengths), shape[-1]
        limit = (6 / (pixels + N_CODE)) ** 0.5  # Glorot's, the default of a dense layer
        uniform = keras.initializers.RandomUniform(-limit, limit)
        start = keras.initializers.RandomNormal(stddev=0.1) if self.kind == "KL" else uniform
        self.kernel = self.add_weight(shape=(n, pixels, N_CODE), initializer=start)
        self.bias = self.add_weight(shape=(n, 1, N_CODE), initializer="zeros", trainable=self.kind != "top-k")
        self.out = self.add_weight(shape=(n, N_CODE, pixels), initializer=uniform)
        self.out_bias = self.add_weight(shape=(n, 1, pixels), initializer="zeros")
        if self.kind == "KL":
            self.bias.assign(np.array([[[np.log(rho / (1 - rho))] * N_CODE] for rho, _ in self.strengths]))

    def encode(self, x):
        """The codes, shape `(models, batch, units)`."""
        z = ops.matmul(x, self.kernel) + self.bias
        if self.kind == "L1":
            return ops.relu(z)
        if self.kind == "KL":
            return ops.sigmoid(z)
        mean, variance = self.statistics or ops.moments(z, axes=1, keepdims=True)
        z = (z - mean) / ops.sqrt(variance + 1e-3)
        largest = ops.top_k(z, max(self.strengths))[0]
        kth = ops.stack([largest[i, :, k - 1 : k] for i, k in enumerate(self.strengths)])
        return ops.where(z >= kth, z, 0.0)

    def decode(self, z):
        return ops.sigmoid(ops.matmul(z, self.out) + self.out_bias)

    def losses_of(self, x, z):
        """The loss of each model, shape `(models,)`."""
        x_hat = self.decode(z)
        loss = ops.mean(ops.binary_crossentropy(ops.broadcast_to(x, ops.shape(x_hat)), x_hat), axis=(1, 2))
        if self.kind == "L1":
            loss = loss + np.float32(self.strengths) * ops.mean(ops.sum(ops.abs(z), axis=2), axis=1)
        if self.kind == "KL":
            rho, beta = np.float32(self.strengths).T
            rho_hat = ops.clip(ops.mean(z, axis=1), 1e-6, 1 - 1e-6)
            loss = loss + beta * ops.sum(bernoulli_kl(rho[:, np.newaxis], rho_hat), axis=1)
        return loss

    def call(self, x):
        z = self.encode(x)
        self.add_loss(ops.sum(self.losses_of(x, z)))
        return z[:, :, 0]

    def fix_statistics(self, x):
        """From now on normalize a top-k code as batch normalization does outside training."""
        self.statistics = None
        if self.kind == "top-k":
            self.statistics = ops.moments(ops.matmul(x, self.kernel), axes=1, keepdims=True)

    def only(self, chosen: list[int]) -> "Codes":
        """The models with these indices."""
        few = Codes(self.kind, tuple(self.strengths[i] for i in chosen), tuple(self.rates[i] for i in chosen))
        few.build((None, self.kernel.shape[1]))
        few.set_weights([weight[chosen] for weight in self.get_weights()])
        return few


def matched(kernel, n=MATCHED):
    """A reader that keeps, for each model of `kernel` `(models, pixels, units)`, how well the best units match a picture.

    Every model's units are scaled to length 1, and the match of the next best unit is subtracted from all.
    """
    kernel = kernel / (ops.norm(kernel, axis=1, keepdims=True) + 1e-6)

    def read(x):
        matches = ops.matmul(x, kernel)
        return ops.relu(matches - ops.top_k(matches, n + 1)[0][..., -1:])

    return read


class Probes(keras.layers.Layer):
    """Softmax layers on codes `(models, batch, units)`, each with every one of `PROBE_DECAYS`; adds their losses."""

    def build(self, shape):
        models, _, units = shape
        self.kernel = self.add_weight(shape=(models, units, len(PROBE_DECAYS) * 10), initializer="zeros")
        self.bias = self.add_weight(shape=(models, 1, len(PROBE_DECAYS) * 10), initializer="zeros")

    def logits(self, z):
        """Shape `(models, decays, batch, 10)`."""
        both = ops.matmul(z, self.kernel) + self.bias
        models, batch = ops.shape(both)[:2]
        return ops.transpose(ops.reshape(both, (models, batch, len(PROBE_DECAYS), 10)), (0, 2, 1, 3))

    def add_losses(self, z, one_hot):
        entropies = -ops.sum(one_hot * ops.log_softmax(self.logits(z)), axis=-1)
        squares = ops.sum(
            ops.reshape(ops.square(self.kernel), (*self.kernel.shape[:2], len(PROBE_DECAYS), 10)), axis=(0, 1, 3)
        )
        self.add_loss(ops.sum(ops.mean(entropies, axis=2)) + ops.sum(np.float32(PROBE_DECAYS) * squares))


class RatePerModel(keras.optimizers.Adam):
    """Adam whose learning rate is multiplied, slice by slice, with the one of `multipliers` that has the variable's place."""

    def __init__(self, schedule, multipliers: list[np.ndarray]):
        super().__init__(schedule)
        self.multipliers = multipliers

    def update_step(self, gradient, variable, learning_rate):
        factor = self.multipliers[self._get_variable_index(variable)]
        super().update_step(gradient, variable, ops.cast(learning_rate, "float32") * factor)


def fit(model: keras.Model, x, n: int, epochs: int, multipliers: dict, batch: int) -> None:
    """Train as the lesson's `train` does, with the losses that the model's layers add."""
    steps = epochs * -(-n // batch)
    in_order = [multipliers[variable.path] for variable in model.trainable_variables]
    model.compile(optimizer=RatePerModel(warm_up_and_cosine(1.0, steps), in_order), loss=None)
    model.fit(x, epochs=epochs, batch_size=batch, verbose=0)


def multipliers_of(stacks: list[Codes]) -> dict[str, np.ndarray]:
    rates = {stack: np.float32(stack.rates)[:, np.newaxis, np.newaxis] for stack in stacks}
    return {weight.path: rates[stack] for stack in stacks for weight in stack.trainable_weights}


def train_codes(
    x_train: np.ndarray, grid: dict, epochs: int, batch: int
) -> tuple[list[Codes], keras.Model, keras.Model]:
    """All codes of `grid` with all their rates, and lesson 01's deep autoencoder with its encoder, trained on `x_train`."""
    x = keras.Input((784,))
    stacks = []
    for kind, (strengths, rates) in grid.items():
        pairs = [(strength, rate) for strength in strengths for rate in rates]
        stacks.append(Codes(kind, *map(tuple, zip(*pairs, strict=True)), name=kind.replace("-", "_")))
    dense, encoder, _ = build_autoencoder(DENSE_SIZES, code_activation="linear")
    add_bce = _AddReconstruction(name="dense")
    model = keras.Model(x, [*(stack(x) for stack in stacks), add_bce(x, dense(x))])
    multipliers = {weight.path: np.float32(DENSE_RATE) for weight in dense.trainable_weights}
    fit(model, x_train, len(x_train), epochs, multipliers | multipliers_of(stacks), batch)
    for stack in stacks:
        stack.fix_statistics(x_train[:SAMPLE])
    return stacks, dense, encoder


class _AddReconstruction(keras.layers.Layer):
    """Passes a reconstruction on and adds its binary cross-entropy."""

    def call(self, x, x_hat):
        self.add_loss(ops.mean(ops.binary_crossentropy(x, x_hat)))
        return x_hat


def best_rates(stack: Codes, x_val: np.ndarray) -> Codes:
    """For each strength the model whose learning rate gives the lowest loss on the validation digits."""
    losses = ops.convert_to_numpy(stack.losses_of(x_val, stack.encode(x_val)))
    chosen = [
        min((i for i, other in enumerate(stack.strengths) if other == strength), key=lambda i: losses[i])
        for strength in dict.fromkeys(stack.strengths)
    ]
    best = stack.only(chosen)
    best.statistics = stack.statistics and tuple(part[np.array(chosen)] for part in map(_numpy, stack.statistics))
    return best


_numpy = ops.convert_to_numpy


def names_of(stack: Codes) -> list[str]:
    """How a curve calls the models: `"top-k 25"`, `"L1 0.0001"`, `"KL 0.05 0.003"`."""
    parts = [s if isinstance(s, tuple) else (s,) for s in stack.strengths]
    return [" ".join([stack.kind, *(f"{part:g}" for part in p)]) for p in parts]


def with_shifts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat pictures and their labels, and the same pictures moved by one pixel in each of the four directions."""
    pictures = x.reshape(-1, 28, 28)
    moved = [np.roll(pictures, step, axis).reshape(x.shape) for axis in (1, 2) for step in (1, -1)]
    return np.concatenate([x, *moved]), np.tile(y, 5)


def _stored_parts():
    """The parts of the strokes that were trained in advance, `(N_PARTS, 784)`."""
    strokes = build_strokes(np.ones((N_PARTS, 784), dtype="float32"))
    load_pretrained("04.strokes", strokes)
    return strokes.layers[-1].parts()


def probe_data() -> tuple[np.ndarray, np.ndarray]:
    """What the stored probe of lesson 04 learns from: matched codes of shifted training digits, and the labels."""
    (x_train, y_train), _, _ = load_mnist(flat=True)
    parts = _stored_parts()
    x, y = with_shifts(x_train, y_train)
    codes = np.empty((len(x), N_PARTS), dtype="float16")
    for start in range(0, len(x), 1000):
        codes[start : start + 1000] = _numpy(lessons.matched(x[start : start + 1000], parts))
    return codes, y


def probe_error(probe: keras.Model) -> dict[str, float]:
    """Test error in percent of the stored probe."""
    _, _, (x_test, y_test) = load_mnist(flat=True)
    parts = _stored_parts()
    codes = np.concatenate([_numpy(lessons.matched(some, parts)) for some in np.split(x_test, 10)])
    digits = probe.predict(codes, batch_size=1000, verbose=0).argmax(axis=1)
    return {"test_error": round(100 * float(np.mean(digits != y_test)), 2)}


def probe_errors(readers: list, data, epochs: int, batch: int) -> list[np.ndarray]:
    """Validation and test errors in percent of probes on what `readers` give, shape `(models, 2)` for each reader.

    A reader maps pictures to codes `(models, batch, units)`, which are divided by the spread of each unit. The weight
    decay of each probe is chosen by its validation error.
    """
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = data
    x_train, y_train = x_train[: TRADEOFF["probe_digits"]], y_train[: TRADEOFF["probe_digits"]]
    scaled = [_Scaled(reader, x_train[:SAMPLE]) for reader in readers]
    model = ProbeModel(scaled)
    one_hot = np.eye(10, dtype="float32")[y_train]
    model.build_probes(x_train[:2])
    multipliers = {weight.path: np.float32(PROBE_RATE) for weight in model.trainable_weights}
    fit(model, {"x": x_train, "y": one_hot}, len(x_train), epochs, multipliers, batch)
    wrong = [model.wrong(x, y) for x, y in ((x_val, y_val), (x_test, y_test))]
    results = []
    for val, test in zip(*wrong, strict=True):
        best = val.argmin(axis=1)[:, np.newaxis]
        results.append(np.concatenate([np.take_along_axis(part, best, axis=1) for part in (val, test)], axis=1))
    return results


class _Scaled:
    """A reader whose units are divided by their spread; those that hardly move are not blown up."""

    def __init__(self, reader, sample):
        self.reader = reader
        spread = _numpy(reader(sample)).std(axis=1, keepdims=True)
        self.spread = spread + 0.1 * spread.mean(axis=2, keepdims=True) + 1e-6

    def __call__(self, x):
        return ops.stop_gradient(self.reader(x)) / self.spread


class ProbeModel(keras.Model):
    def __init__(self, readers):
        super().__init__()
        self.readers = readers
        self.probes = [Probes(name=f"probes_{i}") for i in range(len(readers))]

    def build_probes(self, x):
        for reader, probes in zip(self.readers, self.probes, strict=True):
            probes.build(tuple(reader(x).shape))
        self.built = True

    def call(self, inputs):
        for reader, probes in zip(self.readers, self.probes, strict=True):
            probes.add_losses(reader(inputs["x"]), inputs["y"])
        return inputs["y"]

    def wrong(self, x, y) -> list[np.ndarray]:
        """Errors in percent, shape `(models, decays)` for each reader."""
        return [
            100 * np.mean(np.concatenate(
                [_numpy(probes.logits(reader(x[i : i + 1000]))).argmax(axis=-1) for i in range(0, len(x), 1000)], axis=2
            ) != y, axis=2)
            for reader, probes in zip(self.readers, self.probes, strict=True)
        ]  # fmt: skip


def code_facts(stack: Codes, x_val: np.ndarray) -> dict[str, float]:
    """Error, active and dead units, mean activation and learning rate of each model, on the validation digits."""
    z, x_hat = _numpy(stack.encode(x_val)), _numpy(stack.decode(stack.encode(x_val)))
    results = {}
    for i, name in enumerate(names_of(stack)):
        facts = describe_code(z[i])
        results[f"{name}: MSE"] = np.mean(np.square(x_val - x_hat[i]), dtype="float64")
        results[f"{name}: active"] = facts["active"] * N_CODE
        results[f"{name}: dead"] = facts["dead"]
        results[f"{name}: mean"] = facts["mean"]
        results[f"{name}: rate"] = stack.rates[i]
    return results


def measure_rho(epochs: int, *, grid: dict = RHO_GRID, data=None, batch: int = RHO["batch_size"]) -> dict[str, float]:
    """Error, active and dead units of KL codes whose mean activation is to be smaller than the lesson's."""
    (x_train, _), (x_val, _), _ = data or load_mnist(flat=True)
    return code_facts(best_rates(train_codes(x_train, grid, epochs, batch)[0][0], x_val), x_val)


def measure_tradeoff(
    epochs: int,
    *,
    grid: dict = GRID,
    data=None,
    probe_epochs: int = TRADEOFF["probe_epochs"],
    batch: int = TRADEOFF["batch_size"],
) -> dict[str, float]:
    """Error, active and dead units, and probe errors of every code, each with its best learning rate."""
    data = data or load_mnist(flat=True)
    (x_train, _), (x_val, _), _ = data
    trained, dense_model, dense = train_codes(x_train, grid, epochs, batch)
    best = [best_rates(stack, x_val) for stack in trained]
    x_hat = dense_model.predict(x_val, batch_size=1000, verbose=0)
    results = {"dense 32: MSE": np.mean(np.square(x_val - x_hat), dtype="float64")}
    for stack in best:
        results |= code_facts(stack, x_val)
    untrained = [Codes("L1", (0.0,), (1.0,)), Codes("top-k", (25, 100), (1.0, 1.0))]
    for stack in untrained:
        stack.build((None, 784))
        stack.fix_statistics(x_train[:SAMPLE])
    readers = [*(stack.encode for stack in (*best, *untrained)), lambda x: dense(x)[None], lambda x: x[None]]
    names = [names_of(stack) for stack in best]
    names += [["random"], ["random top-k 25", "random top-k 100"], ["dense 32"], ["pixels"]]
    for stack in (best[-1], untrained[0]):
        readers.append(matched(stack.kernel))
        names.append([f"{name}, matched" for name in (["random"] if stack is untrained[0] else names_of(stack))])
    rng = np.random.default_rng(int(keras.random.randint((), 0, 2**31 - 1)))
    windows = stroke_windows(x_train, N_PARTS, seed=rng)
    dictionaries = {"windows": windows, "digits": x_train[:N_PARTS], "random": rng.normal(size=(N_PARTS, 784))}
    if "04.strokes" in pretrained_names():
        dictionaries["strokes"] = _numpy(_stored_parts())
    readers.append(matched(np.float32([parts.T for parts in dictionaries.values()]), MATCHED_PARTS))
    names.append([f"{N_PARTS} {name}, matched {MATCHED_PARTS}" for name in dictionaries])
    if "strokes" in dictionaries:
        readers.append(matched(np.float32([dictionaries["strokes"].T]), MATCHED))
        names.append([f"{N_PARTS} strokes, matched {MATCHED}"])
    for some, errors in zip(
        names, probe_errors(readers, data, probe_epochs, TRADEOFF["probe_batch_size"]), strict=True
    ):
        for name, (val, test) in zip(some, errors, strict=True):
            results[f"{name}: probe validation"], results[f"{name}: probe test"] = val, test
    return results


def measure_random_sigmoid(
    probe_epochs: int, *, data=None, spreads: tuple = RANDOM_SIGMOID["spreads"]
) -> dict[str, float]:
    """Probe errors of sigmoid units that are never trained, for several spreads of their random weights."""
    stack = Codes("KL", ((0.05, 0.0),) * len(spreads), (1.0,) * len(spreads))
    stack.build((None, 784))
    stack.kernel.assign(stack.kernel * np.float32(spreads)[:, np.newaxis, np.newaxis] / 0.1)
    (errors,) = probe_errors(
        [stack.encode], data or load_mnist(flat=True), probe_epochs, RANDOM_SIGMOID["probe_batch_size"]
    )
    return {
        f"random sigmoid {spread:g}: probe {on}": error
        for spread, both in zip(spreads, errors, strict=True)
        for on, error in zip(("validation", "test"), both, strict=True)
    }


def measure_rates(epochs: int, *, grid: dict = LIVE_GRID, data=None) -> dict[str, float]:
    """Validation loss and error of every strength with every learning rate, trained as in the lesson."""
    (x_train, _), (x_val, _), _ = data or load_mnist(flat=True)
    x_train, results = x_train[: LIVE["digits"]], {}
    for stack in train_codes(x_train, grid, epochs, LIVE["batch_size"])[0]:
        z = stack.encode(x_val)
        losses, codes, x_hat = map(_numpy, (stack.losses_of(x_val, z), z, stack.decode(z)))
        for i, (name, rate) in enumerate(zip(names_of(stack), stack.rates, strict=True)):
            results[f"{name} at {rate:g}: loss"] = losses[i]
            results[f"{name} at {rate:g}: MSE"] = np.mean(np.square(x_val - x_hat[i]), dtype="float64")
            results[f"{name} at {rate:g}: active"] = describe_code(codes[i])["active"] * N_CODE
    return results


def measure_overfitting(
    n_train: int, *, grid: dict = FEW_DIGITS_GRID, steps: int = OVERFIT["steps"]
) -> dict[str, float]:
    """Training and test MSE of codes that learn from the first `n_train` digits only, for the same number of steps."""
    (x_train, _), (x_val, _), (x_test, _) = load_mnist(flat=True)
    x_train, batch = x_train[:n_train], OVERFIT["batch_size"]
    trained, *_ = train_codes(x_train, grid, max(1, steps * batch // n_train), batch)
    results = {}
    for stack in (best_rates(stack, x_val) for stack in trained):
        for kind, x in (("train", x_train[:SAMPLE]), ("test", x_test)):
            errors = np.mean(np.square(x - _numpy(stack.decode(stack.encode(x)))), axis=(1, 2))
            results |= {f"{name}: {kind}": error for name, error in zip(names_of(stack), errors, strict=True)}
    return results
