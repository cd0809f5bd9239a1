"""Notebook 1, "Grokking Deep Learning" chapter 13: from a sum with a gradient to layers and an optimizer.

Its weights are drawn as it drew them (each of its tensors took a random id from NumPy's global generator in between),
so the losses can be compared. Its cells [48] and [50] counted shared results too often; here is the true sequence.

    python examples/seeds/seed1_autograd.py
"""

import numpy as np

import staticgraph as sg

DATA = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = np.array([[0.0], [1.0], [0.0], [1.0]])


def draws(*shapes_and_kinds):
    """The notebook's random numbers from seed 42; "id" is what a tensor drew for itself."""
    state = np.random.RandomState(42)
    for each in shapes_and_kinds:
        if each == "id":
            state.randint(0, 100000)
        else:
            kind, shape = each
            yield getattr(state, kind)(*shape)


def gradients():
    """Operands that are used twice get the sum of both gradients."""
    a, b, c = (sg.placeholder(name, (5,), "float64") for name in "abc")
    f = (a + b) + (b + c)
    backward = sg.compile([a, b, c], [f, sg.grad(f, b, cotangent=1.0)])
    value, slope = backward([1, 2, 3, 4, 5], [2, 2, 2, 2, 2], [5, 4, 3, 2, 1])
    print("(a + b) + (b + c) =", value, " gradient of b =", slope)

    x = sg.constant([[1, 2, 3], [4, 5, 6]])
    down, across, wide = sg.compile([], [x.sum(0), x.sum(1), sg.broadcast_to(x[:, :, None], (2, 3, 4))])()
    print("sums", down, across, " expanded to", wide.shape)


def linear_net(rate, w0, w1):
    """Ten steps of the net without biases, each of them one call."""
    w0, w1 = sg.variable(w0, name="w0"), sg.variable(w1, name="w1")
    data, target = sg.placeholder("data", ("n", 2), "float64"), sg.placeholder("target", ("n", 1), "float64")
    loss = sg.sum((data @ w0 @ w1 - target) ** 2)
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(rate).updates(loss, [w0, w1]))
    return np.array([step(DATA, TARGET) for _ in range(10)])


def sequential_net():
    """The same task with Sequential, Linear, MSELoss and SGD."""
    starts = list(draws("id", "id", ("randn", (2, 3)), "id", "id", ("randn", (3, 1))))
    model = sg.nn.Sequential(sg.nn.Linear(2, 3, init="zeros", dtype="float64"),
                             sg.nn.Linear(3, 1, init="zeros", dtype="float64"))
    for layer, start, inputs in zip(model, starts, (2, 3)):
        layer.weight.value = start * np.sqrt(2 / inputs)
    data, target = sg.placeholder("data", ("n", 2), "float64"), sg.placeholder("target", ("n", 1), "float64")
    loss = sg.nn.MSELoss(reduction="sum")(model(data), target)
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(0.05).updates(loss, model.parameters()))
    return np.array([step(DATA, TARGET) for _ in range(10)])


def main():
    np.set_printoptions(precision=8, linewidth=110)
    gradients()
    print("by hand, rate 0.05", linear_net(0.05, *draws(("rand", (2, 3)), ("rand", (3, 1)))))
    print("by hand, rate 0.1 ", linear_net(0.1, *draws(("rand", (2, 3)), ("rand", (3, 1)))))
    print("autograd, rate 0.1", linear_net(0.1, *draws("id", "id", ("rand", (2, 3)), "id", ("rand", (3, 1)))))
    print("Sequential and SGD", sequential_net())


if __name__ == "__main__":
    main()
