"""erf and erfc: e**(-x*x) times a polynomial, which keeps erfc accurate far into its tail."""

from __future__ import annotations

from .emit import Value, absolute, copysign, fma, function, polynomial, select
from .vector_math import EXP2, exp_parts_and_rest, nearest_integer, scale_down

# (1 + 2*x) * e**(x*x) * erfc(x) in powers of (x - K) / (x + K) up to where erfc vanishes, minimax: 2**-30 and 2**-54.
# The form of the variable is N. Juffa's.
CENTRE = {32: 2.0, 64: 4.0}
ERFC = {
    32: (3.0208117e-04, -3.6427664e-04, -1.532937e-03, 1.2520658e-03, 8.74354e-03, -8.032407e-03, -5.4222297e-02,
         1.6405123e-01, -1.6603032e-01, -9.2763826e-02, 1.2769784e+00),
    64: (-1.800118146113062e-09, -1.3649834118858657e-08, -7.84203436719646e-09, 1.1515979453794141e-07,
         6.288809552841742e-08, -8.347654255261695e-07, 3.0127360206712857e-07, 5.7174980129521505e-06,
         -1.122482175244811e-05, -2.440295362414371e-05, 0.00015062229029869092, -0.00019925557961334548,
         -0.0007577733614695353, 0.00503196977062256, -0.016197734054712722, 0.0371675155607003, -0.06633036581203974,
         0.09373283499691457, -0.10103906603632351, 0.06809705425473354, 0.015379652102620139, -0.13962111684056286,
         1.2329951186255526),
}
ERFC_CONSTANT_REST = {32: 8.025002e-09, 64: 0.0}
"""What the last coefficient is rounded by."""
VANISHES = {32: 10.1, 64: 27.3}

# erf(x) / x - 1 in powers of x*x on [0, 0.9], minimax: 2**-28 and 2**-55.
ERF_LIMIT = 0.9
ERF = {
    32: (8.5032065e-05, -8.17396e-04, 5.2037737e-03, -2.6860502e-02, 1.1283716e-01, -3.7612635e-01, 1.2837917e-01),
    64: (-8.459535123381751e-10, 1.403681577893914e-08, -1.6273838979422213e-07, 1.6455051301221819e-06,
         -1.4925289815897933e-05, 0.00012055320658466183, -0.0008548326745556748, 0.00522397762146413,
         -0.02686617064479498, 0.11283791670953656, -0.37612638903183726, 0.1283791670955126),
}


# log2(erfc(x)) in powers of x on [0.89, 4], minimax: 1 - erfc(x) to 2**-29. The form is N. Juffa's.
ERF_TAIL_32 = (2.8758243e-04, -4.438197e-03, 3.2255556e-02, -1.5033013e-01, -9.18821e-01, -1.62715e+00, -2.204795e-04)


def erfc_of_size(x: Value) -> Value:
    """erfc for x >= 0: 2**n * (1 + p) * (w + w_rest), the rest being what series, divisor and quotient lost."""
    size = select(x > VANISHES[x.bits], VANISHES[x.bits], x)
    centre = CENTRE[x.bits]
    *higher, constant = ERFC[x.bits]
    q = (size - centre) / (size + centre)
    slope = polynomial(q, higher)
    series = fma(slope, q, constant)
    series_rest = fma(slope, q, constant - series) + ERFC_CONSTANT_REST[x.bits]
    divisor = fma(size, 2.0, 1.0)
    inverse = 1.0 / divisor
    w = series * inverse
    w_rest = fma(-w, fma(size, 2.0, 1.0 - divisor), fma(-w, divisor, series) + series_rest) * inverse
    square = size * size
    n, p, rest = exp_parts_and_rest(-square)
    lost = fma(-size, size, square) + rest
    w_rest = fma(w, fma(lost, p, lost), w_rest)
    return scale_down(w + fma(w, p, w_rest), n)


def _one_less_erf(x: Value) -> Value:
    """1 - erf(x) of float32 for x >= 0.9, good to the last place of erf."""
    exponent = polynomial(select(x > 4.0, 4.0, x), ERF_TAIL_32)
    whole, n = nearest_integer(exponent, 1.0)
    r = exponent - whole
    return scale_down(fma(polynomial(r, EXP2[32]), r, 1.0), n)


def erf(x: Value) -> Value:
    """The error function."""
    size = absolute(x)
    small = fma(polynomial(x * x, ERF[x.bits]), size, size)
    rest = _one_less_erf(size) if x.bits == 32 else erfc_of_size(size)
    return copysign(select(size < ERF_LIMIT, small, 1.0 - rest), x)


def erfc(x: Value) -> Value:
    """1 - erf(x), accurate for large x"""
    size = absolute(x)
    right = erfc_of_size(size)
    near = 1.0 - fma(polynomial(x * x, ERF[x.bits]), x, x)
    return select(size < 0.6, near, select(x < 0.0, 2.0 - right, right))


FUNCTIONS = {body.__name__: function(body.__name__, body, 1) for body in (erf, erfc)}
