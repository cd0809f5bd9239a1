"""Handwritten digits with one hidden layer, written first and run afterwards.

The data are scikit-learn's 1,797 digits of 8 x 8 pixels (they come with the package). The network is 64-128-10 with
ReLU, trained by Adam (1e-3) on mini-batches of 64 for 40 epochs, and judged on a stratified fifth that it never saw.
One graph and two compiles serve all five seeds and all batch sizes: a new run only assigns new values to the variables.

    python examples/digits_mlp.py                 # or: make demo
    python examples/digits_mlp.py --device cuda   # the same on a GPU

Importing this file builds the graph and nothing else, so its pieces can be looked at one by one:

    staticgraph graph examples/digits_mlp.py:loss -o loss.svg
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import staticgraph as sg

BATCH, EPOCHS, SEEDS, NEEDED = 64, 40, 5, 0.965

# The graph. "batch" is a symbolic size: kernels take it as an argument, and no size needs a compile of its own.
images = sg.placeholder("images", shape=("batch", 64), dtype="float32")
labels = sg.placeholder("labels", shape=("batch",), dtype="int64")
model = sg.nn.Sequential(
    sg.nn.Linear(64, 128, generator=0, name="hidden"),
    sg.nn.ReLU(),
    sg.nn.Linear(128, 10, generator=1, name="output"),
)
logits = model(images)
loss = sg.nn.cross_entropy(logits, labels, reduction="mean")
prediction = sg.argmax(logits, axis=-1)
optimizer = sg.optim.Adam(lr=1e-3)
updates = optimizer.updates(loss, model.parameters())


def compile_step(device="cpu"):
    """Forward pass, backward pass and Adam's updates as one call that returns the loss."""
    return sg.compile([images, labels], loss, updates=updates, device=device)


def start_again(seed):
    """New weights, and an optimizer that has seen nothing."""
    generator = np.random.default_rng(seed)
    for variable in optimizer.state():
        variable.value = np.zeros(variable.shape, variable.dtype)
    for variable in model.parameters():
        if variable.ndim == 2:
            variable.value = sg.nn.initialisers.he_normal(variable.shape, generator)
        else:
            variable.value = np.zeros(variable.shape, variable.dtype)
    return generator


def load_data(seed):
    """(images, labels) to train on, and a stratified fifth to judge by."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.data / 16).astype(np.float32)
    x, x_test, t, t_test = train_test_split(pixels, digits.target, test_size=0.2, stratify=digits.target,
                                            random_state=seed)
    return (x, t), (x_test, t_test)


def train(step, seed, progress):
    """40 epochs from new weights; the accuracy on the hold-out is the caller's to measure. Returns what it held out,
    and the last epoch's mean loss."""
    (x, t), held_out = load_data(seed)
    generator = start_again(seed)
    for _ in range(EPOCHS):
        order = generator.permutation(len(x))
        losses = [step(x[rows], t[rows]) for rows in np.split(order, range(BATCH, len(order), BATCH))]
        progress.set_postfix(seed=seed, loss=f"{np.mean(losses):.4f}", refresh=False)
        progress.update()
    return held_out, float(np.mean(losses))


def accuracy_from_file(predict, held_out):
    """The accuracy after all was forgotten and read from a file again; the model's weights are saved with Adam's state,
    so that training could go on from there."""
    x, t = held_out
    state = {"model": model, "optimizer": optimizer}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.safetensors")
        sg.save(path, state)
        start_again(0)
        entries = sg.load(path, into=state)
        print(f"saved      {len(entries)} arrays, {os.path.getsize(path):,} bytes, as {os.path.basename(path)}; "
              "and loaded again")
    return float(np.mean(predict(x) == t))


def report_compiler(step):
    """What became of the formulas, pass by pass."""
    program, memory = step.program, step.memory
    print(f"nodes      {program.passes[0].nodes_before} before: loss, gradients and Adam's formulas as they were built")
    for each in program.passes:
        print(f"           {each.nodes_after:>3} after {each.name}")
    print(f"kernels    {len(program.kernels)}, run in {len(program.steps)} steps by one native call")
    print(f"peak bytes {memory.arena.last:,} for intermediate results at batch {BATCH}, beside "
          f"{memory.variables.last:,} for parameters and optimizer state")


def first_step_seconds(device):
    """Seconds that the first step takes in a new process, cold and warm: compiling, loading and running it.

    Cold is a process that finds an empty kernel cache, warm the next one with the same folder. Imports are apart.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "STATICGRAPH_CACHE_DIR": folder}
        command = [sys.executable, os.path.abspath(__file__), "--first-step", "--device", device]
        return [json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
                for _ in range(2)]


def measure_first_step(device):
    """The child process of `first_step_seconds`."""
    began = time.perf_counter()
    import numba  # noqa: F401   the first compile would import it, and that is not compiling

    imported = time.perf_counter()
    compile_step(device)(np.zeros((BATCH, 64), np.float32), np.zeros(BATCH, np.int64))
    print(json.dumps({"imports": imported - began, "first step": time.perf_counter() - imported}))


def microseconds_a_step(step, rounds=2000):
    """The median time of a step on one batch, called from Python."""
    (x, t), _ = load_data(0)
    x, t = x[:BATCH], t[:BATCH]
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        step(x, t)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e6


def main():
    parser = argparse.ArgumentParser(description="Train a digit classifier, and say what the compiler did for it.")
    parser.add_argument("--svg", default="digits_mlp.svg", help="where the picture of the compiled step goes")
    parser.add_argument("--first-step", action="store_true", help="only time the first step, and print it as JSON")
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda, cuda:1 ...")
    options = parser.parse_args()
    if options.first_step:
        measure_first_step(options.device)
        return 0
    from tqdm import tqdm

    step, predict = compile_step(options.device), sg.compile([images], prediction, device=options.device)
    accuracies = []
    with tqdm(total=SEEDS * EPOCHS, unit="epoch") as progress:
        for seed in range(SEEDS):
            held_out, last = train(step, seed, progress)
            x_test, t_test = held_out
            accuracies.append(float(np.mean(predict(x_test) == t_test)))
            progress.write(f"seed {seed}: accuracy {accuracies[-1]:.4f} on {len(t_test)} unseen digits, "
                           f"training loss {last:.4f}")

    from_file = accuracy_from_file(predict, held_out)
    print(f"           accuracy {from_file:.4f}, as before" if from_file == accuracies[-1] else
          f"           accuracy {from_file:.4f}, but it was {accuracies[-1]:.4f}")
    typical = microseconds_a_step(step)
    report_compiler(step)
    cold, warm = first_step_seconds(options.device)
    print(f"first step {cold['first step'] * 1e3:.0f} ms cold, {warm['first step'] * 1e3:.0f} ms warm "
          f"(imports apart: {warm['imports'] * 1e3:.0f} ms)")
    print(f"a step     {typical:.1f} microseconds (forward, backward and Adam at batch {BATCH})")
    sg.viz.export(step, options.svg)
    print(f"picture    {options.svg}")

    mean = float(np.mean(accuracies))
    print(f"accuracy   {mean:.4f}, the mean of {SEEDS} seeds; needed {NEEDED}")
    return 0 if mean >= NEEDED and from_file == accuracies[-1] else 1


if __name__ == "__main__":
    sys.exit(main())
