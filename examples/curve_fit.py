"""A curve from noisy points: a network of two hidden layers learns cos(2x + 20x**2), and draws what it has learnt.

The course CS4787 fits this curve with reverse-mode differentiation written by hand: 256 points with noise of deviation
0.1, a 1-128-128-1 network with ReLU whose first layer is of signs, mini-batches of 8 and plain SGD at a rate of 1e-4
for 10,000 steps. Samples are columns here, as there. The batch is a symbolic size: a step takes 8 points, the losses
are those of all, the drawing asks for 400, and nothing is compiled again for any of these sizes.

    python examples/curve_fit.py                       # writes curve_fit.png where matplotlib is installed
    python examples/curve_fit.py --plot fit.svg        # or .pdf; --plot '' for none

With the seed 4 the losses are known to many digits, and are compared.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import staticgraph as sg

POINTS, BATCH, RATE, STEPS, SEED, WIDTH = 256, 8, 1e-4, 10_000, 4, 128
FIRST = (1877.1883284408482, 240.603154361806, 115.66828420900492, 63.45855394244582, 10.816921772386337)
FINAL = {"train": 0.0371410966, "test": 0.0414915428}
"""Losses of the first steps, and after the last, for the seed."""

NOISE = 0.1**2
"""Below this no model can get: the variance of the noise."""

x = sg.placeholder("x", shape=(1, "batch"), dtype="float64")
y = sg.placeholder("y", shape=(1, "batch"), dtype="float64")
w1, b1, w2, b2, w3, b3 = parameters = [
    sg.variable(np.zeros(shape), name=name) for name, shape in (
        ("w1", (WIDTH, 1)), ("b1", (WIDTH, 1)), ("w2", (WIDTH, WIDTH)), ("b2", (WIDTH, 1)), ("w3", (1, WIDTH)),
        ("b3", (1, 1)))]

hidden = sg.nn.relu(w2 @ sg.nn.relu(w1 @ x + b1) + b2)
prediction = w3 @ hidden + b3
loss = sg.mean((prediction - y) ** 2)
updates = sg.optim.SGD(RATE).updates(loss, parameters)


def curve(points):
    return np.cos(2 * points + 20 * points**2)


def noisy_points(state):
    points = state.rand(1, POINTS)
    return points, curve(points) + 0.1 * state.randn(1, POINTS)


def start(state):
    """The first weights, drawn in the order of the course."""
    for variable, value in ((w1, np.sign(state.randn(WIDTH, 1))), (b1, 2 * state.rand(WIDTH, 1) - 1),
                            (w2, state.randn(WIDTH, WIDTH)), (w3, state.randn(1, WIDTH))):
        variable.value = value
    b2.value, b3.value = np.zeros((WIDTH, 1)), np.zeros((1, 1))


def train(step, points, values, state, steps, progress):
    """The losses of the mini-batches."""
    losses = []
    for number in range(steps):
        rows = state.choice(POINTS, BATCH, replace=False)
        losses.append(float(step(points[:, rows], values[:, rows])))
        if number % 100 == 99:
            progress.set_postfix(loss=f"{np.mean(losses[-100:]):.4f}", refresh=False)
            progress.update(100)
    return losses


def plot(path, train_set, predict, losses):
    """Points, curve and fit, and beside them the losses; without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    grid = np.linspace(0, 1, 400)[None]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    left.scatter(*train_set, s=9, color="0.6", label="points to learn from")
    left.plot(grid[0], curve(grid[0]), "k--", linewidth=1, label="cos(2x + 20x²)")
    left.plot(grid[0], predict(grid)[0], color="tab:blue", linewidth=2, label="network")
    left.set(xlabel="x", ylabel="y", title="What was learnt")
    left.legend(loc="lower left")
    right.semilogy(losses, color="0.8", linewidth=0.5, label="mini-batches")
    means = np.asarray(losses)[:len(losses) // 100 * 100].reshape(-1, 100).mean(1)
    right.semilogy(np.arange(len(means)) * 100 + 50, means, color="tab:blue", label="mean of 100")
    right.axhline(NOISE, color="tab:red", linewidth=1, label="variance of the noise")
    right.set(xlabel="step", ylabel="loss", title="How it was learnt")
    right.legend()
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def as_expected(losses, final):
    """Whether the losses are those that are known."""
    return (np.allclose(losses[:len(FIRST)], FIRST, rtol=1e-9, atol=0)
            and all(np.isclose(final[name], value, rtol=1e-5, atol=0) for name, value in FINAL.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--plot", default="curve_fit.png", help="where the picture goes; '' for none")
    options = parser.parse_args()
    from tqdm import tqdm

    state = np.random.RandomState(options.seed)
    train_set, test_set = noisy_points(state), noisy_points(state)
    start(state)
    step = sg.compile([x, y], loss, updates=updates)
    judge, predict = sg.compile([x, y], loss), sg.compile([x], prediction)
    with tqdm(total=options.steps, unit="step") as progress:
        losses = train(step, *train_set, state, options.steps, progress)
    final = {"train": float(judge(*train_set)), "test": float(judge(*test_set))}
    print("first losses " + " ".join(f"{value:.8g}" for value in losses[:5]))
    print(f"after {options.steps} steps: train {final['train']:.10f}, test {final['test']:.10f}; noise {NOISE:g}")
    if options.plot:
        try:
            plot(Path(options.plot), train_set, predict, losses)
            print(f"picture {options.plot}")
        except ModuleNotFoundError as missing:
            print(f"no picture: {missing.name} is not installed (pip install 'staticgraph[examples]')")
    known = (options.seed, options.steps) == (SEED, STEPS)
    return 1 if known and not as_expected(losses, final) else 0


if __name__ == "__main__":
    sys.exit(main())
