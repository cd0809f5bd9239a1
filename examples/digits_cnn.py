"""Handwritten digits with a convolutional network, written first and run afterwards.

The data are scikit-learn's 1,797 digits of 8 x 8 pixels (they come with the package). Two convolutions of 3 x 3 with 16
and 32 channels, the largest of each 2 x 2, a layer of 64 and one of 10; trained by Adam on mini-batches of 64, and
judged on a stratified fifth that it never saw. The batch is a symbolic size: the last, smaller batch of an epoch and
the whole of the unseen digits go through what was compiled once.

    python examples/digits_cnn.py                 # a few seconds
    python examples/digits_cnn.py --device cuda   # the same on a GPU

Importing this file builds the graph and nothing else:

    staticgraph graph examples/digits_cnn.py:loss -o loss.svg
    staticgraph bench examples/digits_cnn.py:loss --size batch=64
"""

import argparse
import sys
import time

import numpy as np

import staticgraph as sg

BATCH, EPOCHS, SEEDS, NEEDED = 64, 20, 3, 0.978
RATE = 3e-3

images = sg.placeholder("images", shape=("batch", 1, 8, 8), dtype="float32")
labels = sg.placeholder("labels", shape=("batch",), dtype="int64")
model = sg.nn.Sequential(
    sg.nn.Conv2d(1, 16, 3, padding="same", generator=0, name="first"),
    sg.nn.ReLU(),
    sg.nn.Conv2d(16, 32, 3, padding="same", generator=1, name="second"),
    sg.nn.ReLU(),
    sg.nn.MaxPool2d(2),
    sg.nn.Flatten(),
    sg.nn.Linear(512, 64, generator=2, name="hidden"),
    sg.nn.ReLU(),
    sg.nn.Linear(64, 10, generator=3, name="output"),
)
logits = model(images)
loss = sg.nn.cross_entropy(logits, labels, reduction="mean")
prediction = sg.argmax(logits, axis=-1)
optimizer = sg.optim.Adam(lr=RATE)
updates = optimizer.updates(loss, model.parameters())


def loss_inputs(sizes):
    """What `staticgraph bench` and `profile` are to use: digits, as many as its size asks for."""
    (x, t), _ = load_data(0)
    rows = np.arange(sizes["batch"]) % len(x)
    return {"images": x[rows], "labels": t[rows]}


def compile_step(device="cpu"):
    """Forward pass, backward pass and Adam's updates as one call that returns the loss."""
    return sg.compile([images, labels], loss, updates=updates, device=device)


def start_again(seed):
    """New weights, and an optimizer that has seen nothing."""
    generator = np.random.default_rng(seed)
    for variable in [*optimizer.state(), *model.parameters()]:
        variable.value = np.zeros(variable.shape, variable.dtype)
    for variable in model.parameters():
        if variable.ndim > 1:
            variable.value = sg.nn.initialisers.he_normal(variable.shape, generator)
    return generator


def load_data(seed):
    """(images, labels) to train on, and a stratified fifth to judge by."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)[:, None]
    x, x_test, t, t_test = train_test_split(pixels, digits.target, test_size=0.2, stratify=digits.target,
                                            random_state=seed)
    return (x, t), (x_test, t_test)


def train(step, seed, progress):
    """All epochs from new weights. Returns what was held out, the mean loss of the last epoch, the number of steps."""
    (x, t), held_out = load_data(seed)
    generator = start_again(seed)
    steps = 0
    for _ in range(EPOCHS):
        order = generator.permutation(len(x))
        losses = [step(x[rows], t[rows]) for rows in np.split(order, range(BATCH, len(order), BATCH))]
        steps += len(losses)
        progress.set_postfix(seed=seed, loss=f"{np.mean(losses):.4f}", refresh=False)
        progress.update()
    return held_out, float(np.mean(losses)), steps


def main():
    parser = argparse.ArgumentParser(description="Train a small convolutional network on scikit-learn's digits.")
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda, cuda:1 ...")
    options = parser.parse_args()
    from tqdm import tqdm

    began = time.perf_counter()
    step, predict = compile_step(options.device), sg.compile([images], prediction, device=options.device)
    compiled = time.perf_counter()
    accuracies, steps = [], 0
    with tqdm(total=SEEDS * EPOCHS, unit="epoch") as progress:
        for seed in range(SEEDS):
            (x_test, t_test), last, count = train(step, seed, progress)
            steps += count
            accuracies.append(float(np.mean(predict(x_test) == t_test)))
            progress.write(f"seed {seed}: accuracy {accuracies[-1]:.4f} on {len(t_test)} unseen digits, "
                           f"training loss {last:.4f}")
    print(f"compiled   in {compiled - began:.1f} s, {len(step.program.kernels)} kernels")
    print(f"trained    {steps} steps in {time.perf_counter() - compiled:.1f} s")
    mean = float(np.mean(accuracies))
    print(f"accuracy   {mean:.4f}, the mean of {SEEDS} seeds; needed {NEEDED}")
    return 0 if mean >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
