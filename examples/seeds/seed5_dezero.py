"""Notebook 5, the first steps of DeZero: exp(x**2)**2, its gradient by hand and by `sg.grad`, and the check of both.

    python examples/seeds/seed5_dezero.py
"""

import numpy as np

import staticgraph as sg

x = sg.placeholder("x", (), "float64")
a = sg.square(x)
b = sg.exp(a)
y = sg.square(b)


def numerical_difference(function, at, eps=1e-4):
    """The central difference."""
    return (function(at + eps) - function(at - eps)) / (2 * eps)


def main():
    forward = sg.compile([x], y)
    print(f"y = exp(0.5**2)**2 = {forward(0.5):.15f}")

    by_hand = sg.grad(a, x, cotangent=sg.grad(b, a, cotangent=sg.grad(y, b)))     # one function after the other
    for name, slope in (("by hand", by_hand), ("by sg.grad", sg.grad(y, x))):
        print(f"dy/dx {name}: {sg.compile([x], slope)(0.5):.15f}")
    print(f"central differences: {numerical_difference(forward, 0.5):.16f}, of the square at 2: "
          f"{numerical_difference(sg.compile([x], a), 2.0):.12f}")

    print("creators:", " <- ".join(node.op.name for node in (y, *y.inputs, *b.inputs, *a.inputs)))
    sg.verify_grad(y, [x], {x: np.array(0.5)})
    print("verify_grad: the gradient is the slope")


if __name__ == "__main__":
    main()
