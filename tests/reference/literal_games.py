"""The values of a game by their definitions: sums over subsets and orders, one by one, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations, permutations

Payoff = Callable[[frozenset[int]], float]


def subsets(players: list[int]) -> Iterator[frozenset[int]]:
    """All subsets, the empty one first."""
    for size in range(len(players) + 1):
        for members in combinations(players, size):
            yield frozenset(members)


def shapley_by_subsets(players: int, payoff: Payoff) -> list[float]:
    r"""$\phi_i = \sum_{S \subseteq N \setminus i} \frac{|S|!\,(n-|S|-1)!}{n!} (f(S \cup i) - f(S))$.

    Source:
        Shapley 1953, eq. 13.
    """
    values = []
    for player in range(players):
        others = [other for other in range(players) if other != player]
        value = 0.0
        for subset in subsets(others):
            weight = math.factorial(len(subset)) * math.factorial(players - len(subset) - 1) / math.factorial(players)
            value += weight * (payoff(subset | {player}) - payoff(subset))
        values.append(value)
    return values


def shapley_by_orders(players: int, payoff: Payoff) -> list[float]:
    """The mean of what each player adds when it joins, over all orders of the players."""
    values = [0.0] * players
    for order in permutations(range(players)):
        present: frozenset[int] = frozenset()
        for player in order:
            values[player] += (payoff(present | {player}) - payoff(present)) / math.factorial(players)
            present = present | {player}
    return values


def banzhaf(players: int, payoff: Payoff) -> list[float]:
    r"""$\beta_i = 2^{1-n} \sum_{S \subseteq N \setminus i} (f(S \cup i) - f(S))$."""
    values = []
    for player in range(players):
        others = [other for other in range(players) if other != player]
        total = sum(payoff(subset | {player}) - payoff(subset) for subset in subsets(others))
        values.append(total / 2 ** (players - 1))
    return values


def maximum_sample_reuse(coalitions: list[frozenset[int]], players: int, payoff: Payoff) -> list[float]:
    """For each player the mean payoff of the coalitions with it, less that of the coalitions without it.

    Source:
        Wang and Jia 2023, arXiv 2205.15466, eq. 5.
    """
    values = []
    for player in range(players):
        with_it = [payoff(coalition) for coalition in coalitions if player in coalition]
        without = [payoff(coalition) for coalition in coalitions if player not in coalition]
        values.append(sum(with_it) / len(with_it) - sum(without) / len(without))
    return values


def mean_over_orders(orders: list[list[int]], payoff: Payoff) -> list[float]:
    """The mean of what each player adds when it joins, over some orders.

    Source:
        Castro et al. 2009, doi:10.1016/j.cor.2008.04.004, eq. 2.
    """
    values = [0.0] * len(orders[0])
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            values[player] += (payoff(before | {player}) - payoff(before)) / len(orders)
    return values


def shapley_kernel(players: int, size: int) -> float:
    r"""$\mu = (n - 1) / (\binom{n}{s} s (n - s))$.

    Source:
        Lundberg and Lee 2017, arXiv 1705.07874, theorem 2.
    """
    return (players - 1) / (math.comb(players, size) * size * (players - size))


def constrained_regression(
    coalitions: list[frozenset[int]], weights: list[float], players: int, payoff: Payoff
) -> list[float]:
    r"""The $\phi$ that minimise $\sum_T w_T (f(T) - f(\emptyset) - \sum_{i \in T} \phi_i)^2$ and sum to $f(N) - f(\emptyset)$.

    By a Lagrange multiplier: the gradient of the sum of squares is the same number for every player.
    """  # noqa: E501
    empty, full = payoff(frozenset()), payoff(frozenset(range(players)))
    system = [[0.0] * (players + 1) for _ in range(players + 1)]
    right = [0.0] * (players + 1)
    for coalition, weight in zip(coalitions, weights, strict=True):
        for i in coalition:
            right[i] += weight * (payoff(coalition) - empty)
            for j in coalition:
                system[i][j] += weight
    for i in range(players):
        system[i][players] = system[players][i] = 1.0
    right[players] = full - empty
    return solve(system, right)[:players]


def solve(system: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination with the largest pivot."""
    count = len(right)
    rows = [[*row, value] for row, value in zip(system, right, strict=True)]
    for column in range(count):
        pivot = max(range(column, count), key=lambda r: abs(rows[r][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for other in range(count):
            if other != column:
                factor = rows[other][column] / rows[column][column]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[column], strict=True)]
    return [rows[i][count] / rows[i][i] for i in range(count)]


def lasso(columns: list[list[float]], observed: list[float], alpha: float, *, rounds: int = 2000) -> list[float]:
    r"""The w that minimise $\frac{1}{2m} \sum_t (y_t - b - \sum_i w_i z_{it})^2 + \alpha \sum_i |w_i|$, one by one.

    `columns` have mean 0, so that b is the mean of y. Each round sets every weight to its best value given the others,
    $w_i = S(z_i \cdot r_i / m, \alpha) / (z_i \cdot z_i / m)$ with S the soft threshold.

    Source:
        Tibshirani 1996; the problem is that of Cohen-Wang et al. 2024, arXiv 2409.00729, section 3.
    """
    samples, mean = len(observed), sum(observed) / len(observed)
    weights = [0.0] * len(columns)
    for _ in range(rounds):
        for i, column in enumerate(columns):
            rest = [
                observed[t] - mean - sum(weights[j] * columns[j][t] for j in range(len(columns)) if j != i)
                for t in range(samples)
            ]
            pull = sum(z * r for z, r in zip(column, rest, strict=True)) / samples
            size = sum(z * z for z in column) / samples
            weights[i] = math.copysign(max(0.0, abs(pull) - alpha), pull) / size
    return weights
