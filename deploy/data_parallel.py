"""Train a VAE like lesson 06's on several machines at once, by Keras' data parallelism on JAX.

Every machine runs this program with the address of the first one, how many there are, and which of them it is:

    python deploy/data_parallel.py --address 10.0.0.1:9876 --processes 2 --process 0    # on 10.0.0.1
    python deploy/data_parallel.py --address 10.0.0.1:9876 --processes 2 --process 1    # on the other

On one machine the two commands go into two terminals, with the address `127.0.0.1:9876`. Without arguments one process
trains alone. JAX is needed beside the course's own packages: `python -m pip install jax`.

Each process holds the whole model and computes, on all its devices, with its share of every batch; before each step all
add up their gradients. So all print the same losses, and the same as one process alone, but for rounding.
"""

import argparse
import importlib.util
import os
import sys

import numpy as np

EXAMPLES, BATCH_SIZE, EPOCHS = 5_120, 128, 3  # of all processes together


def share_of(x: np.ndarray, processes: int, process: int) -> np.ndarray:
    """What one process trains on: its part of every batch of `x`, so that all parts together make the same batches."""
    batches = x.reshape(-1, processes, BATCH_SIZE // processes, *x.shape[1:])
    return batches[:, process].reshape(-1, *x.shape[1:])


def train(address: str | None, processes: int, process: int) -> list[float]:
    """Train the VAE together with the other processes; return the loss of each epoch."""
    os.environ["KERAS_BACKEND"] = "jax"  # the one on which Keras spreads a training over processes
    from course_utils.backend import keras, silenced_stderr

    if processes > 1:
        # This waits until all have called. It has to come before anything is computed, so also before what follows.
        keras.distribution.initialize(address, processes, process)
    from course_utils.data import load_mnist
    from course_utils.lessons import VAE, build_vae_networks

    with silenced_stderr():  # Keras imports TensorFlow here, whatever the backend
        keras.utils.set_random_seed(0)
    # Keras would make the shares itself, but of a tf.data.Dataset only.
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    x = share_of(load_mnist(flat=True)[0][0][:EXAMPLES], processes, process)
    vae = VAE(*build_vae_networks([400, 200], latent=20), seed=0)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    # Shuffled, each process would have another order, and the batches would no longer be the same.
    history = vae.fit(x, batch_size=BATCH_SIZE // processes, epochs=EPOCHS, shuffle=False, verbose=0)
    return history.history["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="address and free port of process 0; the same for all")
    parser.add_argument("--processes", type=int, default=1, help="how many there are")
    parser.add_argument("--process", type=int, default=0, help="which of them this is, from 0")
    arguments = parser.parse_args()
    processes, process = arguments.processes, arguments.process
    if processes < 1 or BATCH_SIZE % processes:
        parser.error(f"--processes is {processes}; expected a number that divides the batch of {BATCH_SIZE}")
    if not 0 <= process < processes:
        parser.error(f"--process is {process}; expected a number from 0 to {processes - 1}")
    if processes > 1 and arguments.address is None:
        parser.error("several processes need the --address of process 0, such as 10.0.0.1:9876")
    if importlib.util.find_spec("jax") is None:
        sys.exit("JAX is not installed: python -m pip install jax")
    for epoch, loss in enumerate(train(arguments.address, processes, process), start=1):
        print(f"process {process} of {processes}, epoch {epoch}: loss {loss:.6f}", flush=True)


if __name__ == "__main__":
    main()
