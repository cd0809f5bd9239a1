"""Notebook 4 (CS4787): a net of two hidden layers learns cos(2x + 20x**2) from 256 noisy points, by mini-batches.

Samples are columns, the batch size is symbolic, and the loss divides by it: one compile serves batches of 8 and the
whole of both sets. The noise's variance, 0.01, is the floor of the test loss.

    python examples/seeds/seed4_regression.py [--seed 4] [--steps 10000] [--predictions FILE.csv]
"""

import argparse

import numpy as np

import staticgraph as sg

POINTS, BATCH, RATE = 256, 8, 1e-4


def noisy_curve(state):
    xs = state.rand(1, POINTS)
    return xs, np.cos(2 * xs + 20 * xs**2) + 0.1 * state.randn(1, POINTS)


def build(state):
    """(placeholders, prediction, loss, parameters), the weights drawn from `state`."""
    start = {"w1": np.sign(state.randn(128, 1)), "b1": 2 * state.rand(128, 1) - 1, "w2": state.randn(128, 128),
             "w3": state.randn(1, 128), "b2": np.zeros((128, 1)), "b3": np.zeros((1, 1))}
    p = {name: sg.variable(value, name=name) for name, value in start.items()}
    x, y = (sg.placeholder(name, (1, "batch"), "float64") for name in "xy")
    hidden = sg.nn.relu(p["w2"] @ sg.nn.relu(p["w1"] @ x + p["b1"]) + p["b2"])
    prediction = p["w3"] @ hidden + p["b3"]
    return (x, y), prediction, sg.sum((prediction - y) ** 2) / prediction.size, list(p.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--predictions", help="write x and prediction as text to this file")
    options = parser.parse_args()
    state = np.random.RandomState(options.seed)
    train, test = noisy_curve(state), noisy_curve(state)
    (x, y), prediction, loss, parameters = build(state)
    step = sg.compile([x, y], loss, updates=sg.optim.SGD(RATE).updates(loss, parameters))
    judge, predict = sg.compile([x, y], loss), sg.compile([x], prediction)

    for number in range(options.steps):
        chosen = state.choice(POINTS, BATCH, replace=False)
        value = step(train[0][:, chosen], train[1][:, chosen])
        if number < 5 or number % 1000 == 0:
            print(f"step {number:>6}: loss of the batch {value:.10g}")
    print(f"after {options.steps} steps: train {judge(*train):.10f}, test {judge(*test):.10f}")
    if options.predictions:
        grid = np.linspace(0, 1, 201)[None]
        np.savetxt(options.predictions, np.concatenate([grid, predict(grid)]).T, delimiter=",", header="x,prediction")


if __name__ == "__main__":
    main()
