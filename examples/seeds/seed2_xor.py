"""Notebook 2: operators with gradients, mean squared error in two ways, and XOR.

The notebook's XOR run was lucky: its kind of start converges for 2 of 20 seeds. Here the starts are fixed: one that is
drawn as torch draws it, one of the notebook's kind that works, and a net without ReLU, which cannot do it.

    python examples/seeds/seed2_xor.py
"""

import numpy as np

import staticgraph as sg

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
XOR = np.array([[0.0], [1.0], [1.0], [0.0]])

# An op of one's own: meaning, kernel formula and gradient.
cube = sg.primitive("cube", ref=lambda x: x * x * x, scalar="{0} * {0} * {0}", vjp=lambda ct, y, x: (ct * 3 * x * x,))


def operators():
    a = sg.placeholder("a", (2, 3), "float64")
    value = np.array([[-0.72880416, 0.44638519, -0.96024022], [1.34800874, 0.89310222, 1.19075777]])
    slope, own = sg.compile([a], [sg.grad(sg.mean(sg.square(a)), a), sg.grad(sg.sum(cube(a)), a)])(value)
    print("gradient of mean(a**2)", slope.round(8).tolist())
    print("gradient of sum(cube(a))", own.round(8).tolist())
    b = sg.placeholder("b", (2, 3), "float64")
    for name, loss in (("as one op", sg.nn.mse(a, b, reduction="mean")), ("as three", sg.mean(sg.square(a - b)))):
        step = sg.compile([a, b], loss)
        print(f"squared error {name}: {step(value, value[::-1].copy()):.15f} in {len(step.program.steps)} kernel")


def xor(w1, w2, epochs, activation):
    """The losses of each epoch."""
    x, t = sg.placeholder("x", ("n", 2), "float64"), sg.placeholder("t", ("n", 1), "float64")
    start = {"w1": w1, "b1": np.zeros((1, 5)), "w2": w2, "b2": np.zeros((1, 1))}
    p = {name: sg.variable(value, name=name) for name, value in start.items()}
    loss = sg.nn.mse(activation(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"], t, reduction="mean")
    step = sg.compile([x, t], loss, updates=sg.optim.SGD(0.1).updates(loss, p.values()))
    return [float(step(CORNERS, XOR)) for _ in range(epochs)]


def uniform(seed=4):
    state = np.random.RandomState(seed)
    return state.uniform(-(2**-0.5), 2**-0.5, (2, 5)), state.uniform(-(5**-0.5), 5**-0.5, (5, 1))


def around_one(seed=16):
    state = np.random.RandomState(seed)
    return state.randn(2, 5) * 0.5 + 1, state.randn(5, 1) * 0.5 + 1


def main():
    operators()
    runs = {
        "uniform start": xor(*uniform(), 10_000, sg.nn.relu),
        "start around one": xor(*around_one(), 10_000, sg.nn.relu),
        "without ReLU": xor(*uniform(), 10_000, lambda x: x),
    }
    for name, losses in runs.items():
        print(name)
        for epoch in (0, 1, 10, 100, 200, 500, 1000, 9999):
            print(f"  epoch {epoch:>4}: loss {losses[epoch]:.10g}")


if __name__ == "__main__":
    main()
