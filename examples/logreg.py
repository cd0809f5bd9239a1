"""Logistic regression on the breast cancer data, by plain gradient descent on everything at once.

The data are scikit-learn's 569 tumours of 30 measurements (they come with the package), standardised. Weights start at
zero, the rate is 0.1, everything is float64: the losses can be compared digit by digit with anybody's. Then the same
compiled step is judged by five-fold cross-validation, each fold standardised by what it trains on; the folds have
different sizes, and one compile serves them all.

    python examples/logreg.py

Importing this file builds the graph and nothing else:

    staticgraph graph examples/logreg.py:loss -o loss.svg
    staticgraph bench examples/logreg.py:loss --size n=569
"""

import sys

import numpy as np

import staticgraph as sg

STEPS, RATE, FOLDS, NEEDED = 1000, 0.1, 5, 0.970
EXPECTED = {0: 0.6931471806, 1: 0.5231602808, 10: 0.2424027244, 100: 0.102721258, 1000: 0.0605776037}
"""Loss after so many steps, to ten digits, as NumPy and PyTorch have it."""

TOLERANCE = 1e-8

measurements = sg.placeholder("measurements", shape=("n", 30), dtype="float64")
benign = sg.placeholder("benign", shape=("n",), dtype="float64")
weights = sg.variable(np.zeros(30), name="weights")
bias = sg.variable(np.zeros(()), name="bias")

logits = measurements @ weights + bias
loss = sg.nn.binary_cross_entropy(logits, benign, reduction="mean")     # of logits: no log of 0 anywhere
updates = sg.optim.SGD(RATE).updates(loss, [weights, bias])


def loss_inputs(sizes):
    """What `staticgraph bench` and `profile` are to use: the data, as often as its size asks for."""
    x, t = load_data()
    rows = np.arange(sizes["n"]) % len(x)
    return {"measurements": standardised(x, x)[rows], "benign": t[rows]}


def load_data():
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return data.data, data.target.astype(np.float64)


def standardised(x, by):
    """Columns of mean 0 and deviation 1, measured on `by`."""
    return (x - by.mean(0)) / by.std(0)


def train(step, x, t):
    """From zero, `STEPS` steps; the loss before each of them."""
    weights.value, bias.value = np.zeros(30), np.zeros(())
    return [float(step(x, t)) for _ in range(STEPS)]


def cross_validated(step, predict, x, t, progress):
    """The share of tumours that the model of the other folds gets right, for each fold."""
    from sklearn.model_selection import StratifiedKFold

    shares = []
    for rows, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, t):
        train(step, standardised(x[rows], x[rows]), t[rows])
        found = predict(standardised(x[held_out], x[rows])) > 0
        shares.append(float(np.mean(found == t[held_out])))
        progress.update()
    return shares


def main():
    from tqdm import tqdm

    x, t = load_data()
    step = sg.compile([measurements, benign], loss, updates=updates)
    judge, predict = sg.compile([measurements, benign], loss), sg.compile([measurements], logits)

    scaled = standardised(x, x)
    losses = train(step, scaled, t)
    losses.append(float(judge(scaled, t)))
    right = True
    for number, expected in EXPECTED.items():
        close = abs(losses[number] / expected - 1) <= TOLERANCE
        right = right and close
        print(f"loss after {number:>4} steps: {losses[number]:.10f}{'' if close else f', expected {expected}'}")
    accuracy = float(np.mean((predict(scaled) > 0) == t))
    with tqdm(total=FOLDS, unit="fold") as progress:
        shares = cross_validated(step, predict, x, t, progress)
    print(f"accuracy on all data {accuracy:.4f}; on folds that it had not seen {np.mean(shares):.4f} "
          f"({min(shares):.4f} to {max(shares):.4f}), needed {NEEDED}")
    return 0 if right and np.mean(shares) >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
