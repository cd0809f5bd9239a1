"""Notebook 3: an exercise on a Tensor class, whose asserts became these lines. Samples are columns.

Nothing accumulates unless asked for: the accumulator below is a variable with an update.

    python examples/seeds/seed3_toolbox.py
"""

import math

import numpy as np

import staticgraph as sg


def derive(formula, cotangent, **arrays):
    """The formula's gradients at the arrays, compiled."""
    feed = {sg.placeholder(name, np.shape(value), "float64"): value for name, value in arrays.items()}
    backward = sg.compile(list(feed), sg.grad(formula(*feed), list(feed), cotangent=cotangent))
    return [slope.tolist() for slope in backward(*feed.values())]


def operators():
    square = [[1.0, 2.0], [3.0, 4.0]]
    print("(a + b) + a     ", derive(lambda a, b: (a + b) + a, 1, a=1.0, b=2.0))
    print("a * b           ", derive(lambda a, b: a * b, 2, a=2.0, b=3.0))
    print("a / b           ", derive(lambda a, b: a / b, 0.5, a=[1.0, 2.0], b=[3.0, 4.0]))
    print("A ** 4          ", derive(lambda a: a**4, [[-1.0, 0.0], [1.0, 2.0]], a=square))
    print("c @ A @ b       ", derive(lambda c, a, b: c @ a @ b, -1.5, c=[[3.0, 4.0]], a=square, b=[[1.0], [2.0]]))
    print("relu            ", derive(sg.nn.relu, [[4.0, 3.0], [2.0, 1.0], [0.0, -1.0]],
                                     x=[[-1.0, -2.0], [0.5, 2.0], [1.0, 5.0]]))
    print("exp             ", derive(sg.exp, [[-1.0], [2.0]], x=[[-1.0], [2.0]]))
    print("log             ", derive(sg.log, 1.5, x=[0.1, 1.0, 2.0, math.exp(100)]))
    print("sum, mean, A[0,1]", derive(lambda a: a.sum(1).sum(), 2.5, a=square), derive(sg.mean, 1, a=square),
          derive(lambda a: a[0, 1], 5, a=square))


def accumulate():
    a, b = sg.placeholder("a", (), "float64"), sg.placeholder("b", (), "float64")
    da, db = sg.grad((a + b) + a, [a, b])
    total = sg.variable(0.0, name="total")
    backward = sg.compile([a, b], [da, db], updates={total: total + da})
    print("two calls give  ", [[float(each) for each in backward(1.0, 2.0)] for _ in range(2)], "accumulated in a:",
          float(total.value))


class Columns(sg.nn.Layer):
    """weight @ x + bias."""

    def __init__(self, weight, bias):
        self.weight, self.bias = sg.variable(weight, name="weight"), sg.variable(bias, name="bias")

    def forward(self, x):
        return self.weight @ x + self.bias


def network():
    model = sg.nn.Sequential(
        Columns(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [2.0]])),
        sg.nn.ReLU(),
        Columns(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[1.0], [2.0], [3.0]])),
    )
    x = sg.placeholder("x", (2, 1), "float64")
    logits = model(x)
    loss = sg.nn.CrossEntropyLoss()(logits.T, [1])
    values, total, *slopes = sg.compile([x], [logits, loss, *sg.grad(loss, model.parameters())])([[1.0], [2.0]])
    print("logits", values.ravel().tolist(), " cross entropy", float(total))
    for parameter, slope in zip(model.parameters(), slopes):
        print(f"  gradient of {parameter.name}:", slope.tolist())


if __name__ == "__main__":
    operators()
    accumulate()
    network()
