"""The efficiency model of the LLM-Twin paper: its Table 1 and Eq. (1) to (13). It knows no machine.

Hong, Wu and Morello, "LLM-Twin: Mini-Giant Model-driven Beyond 5G Digital Twin Networking Framework with
Semantic Secure Communication and Computation". Names are the paper's symbols with their unit: a tilde (w̃) is
`_tilde`, and Eq. (5) `T` with upper `cmp` and lower `u_i` is `T_u_cmp_s`. Choices where the paper leaves one:

- A size |x| is one number in the paper, whether it is trained on, averaged or sent. Here data are in bytes,
  models in parameters, and what is sent of a model in bytes: parameters times bytes per parameter.
- ξ is spelled ε in Table 1. It is in cycles per byte and parameter, since Eq. (5) multiplies by both. It
  covers a whole local training, epochs included: K counts rounds, and LLM-Twin has none.
- f counts clock cycles while the work lasts, however many cores share it: they are inside ξ and α.
- α of Eq. (6) loads one adapter, that of Eq. (5) averages many models. The paper has one α for both; here
  they are two, which may be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError

Array = NDArray[np.float64]
Numbers = float | Array
MUCH = 10.0
"""How many times larger is "much larger" (≫), which the paper does not say."""


class Symbol(NamedTuple):
    """How the paper writes a parameter, its unit, and what it is."""

    symbol: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Parameters:
    """Table 1: n entities u and their server g. Sizes are one number where all n are alike, else (n,).

    Each field is annotated with its Symbol.
    """

    n: Annotated[int, Symbol("n", "entities", "physical entities")]
    K_rounds: Annotated[float, Symbol("K", "rounds", "rounds of federated learning to convergence")]
    lambda_syncs: Annotated[
        float, Symbol("λ", "synchronisations", "synchronisations of state to one of static data")
    ]
    w_parameters: Annotated[Numbers, Symbol("|w|", "parameters", "what federated learning trains and sends")]
    w_tilde_parameters: Annotated[Numbers, Symbol("|w̃|", "parameters", "what LLM-Twin trains and sends")]
    b_bytes_per_parameter: Annotated[float, Symbol("b", "bytes a parameter", "of w on the wire")]
    b_tilde_bytes_per_parameter: Annotated[float, Symbol("b̃", "bytes a parameter", "of w̃ on the wire")]
    xi_cycles_per_byte_parameter: Annotated[Numbers, Symbol("ξ", "cycles a byte and parameter", "training w")]
    xi_tilde_cycles_per_byte_parameter: Annotated[
        Numbers, Symbol("ξ̃", "cycles a byte and parameter", "tuning w̃")
    ]
    alpha_cycles_per_parameter: Annotated[float, Symbol("α", "cycles a parameter", "averaging models")]
    alpha_tilde_cycles_per_parameter: Annotated[
        float, Symbol("α̃", "cycles a parameter", "loading one adapter")
    ]
    f_u_hz: Annotated[Numbers, Symbol("f_u", "cycles a second", "clock of an entity")]
    f_g_hz: Annotated[float, Symbol("f_g", "cycles a second", "clock of the server")]
    H_bytes: Annotated[Numbers, Symbol("|H|", "bytes", "history of an entity")]
    S_bytes: Annotated[Numbers, Symbol("|S|", "bytes", "whole state of an entity")]
    S_s_bytes: Annotated[Numbers, Symbol("|S_s|", "bytes", "static part of the state: what is tuned on")]
    S_d_bytes: Annotated[Numbers, Symbol("|S_d|", "bytes", "dynamic part of the state")]
    S_d_tilde_bytes: Annotated[Numbers, Symbol("|S̃_d|", "bytes", "the dynamic part as prompts")]
    H_tilde_bytes: Annotated[float, Symbol("|H̃|", "bytes", "prompts of all entities in the database")]
    r_bytes_per_s: Annotated[Numbers, Symbol("r", "bytes a second", "rate between an entity and the server")]
    r_N_bytes_per_s: Annotated[
        float, Symbol("r_N", "bytes a second", "rate at which the prompts are searched")
    ]


# ---- what twins are made of: Eq. (1) to (4) -----------------------------------------------------


def M_tilde_bytes(M_bytes: float, N_bytes: float, S_s_bytes: float) -> float:
    """Eq. (1), M̃_i = M_i + N_i + S_{s,i}: decision model, network and static state in one (bytes)."""
    return M_bytes + N_bytes + S_s_bytes


def H_tilde_bytes(H_bytes: Numbers, d_bytes: Numbers, S_d_bytes: Numbers) -> float:
    """Eq. (1), H̃_i = Σ_{i=1}^n (H_i + d_i + S_{d,i}): the prompts (bytes) of n entities, (n,) each.

    The paper gives the sum the index of one of its terms. Here it is the one database of all.
    """
    return float(np.sum(np.asarray(H_bytes) + d_bytes + S_d_bytes))


def L_i(losses: Array) -> float:
    """Eq. (2), L_i(w) = 1/|H_i| Σ l(w, x_j, y_j): a loss (nats) from those of samples, (|H_i|,)."""
    return float(losses.mean())


def L_g(losses: Array, H: Array) -> float:
    """Eq. (2), L_g(w) = 1/|H_g| Σ |H_i| L_i(w): loss of all (nats) from L_i and |H_i|, (n,) each.

    The paper leaves out |H_i|, so that its means would shrink with the data. Eq. (3) has it.
    """
    return float((H * losses).sum() / H.sum())


def w_i(w: Array, gradient: Array, eta: float) -> Array:
    """Eq. (3), w_i(t) = w(t-1) - η ∇L_i(w(t-1)): one local step over parameters of any shape."""
    return w - eta * gradient


def w_next(weights: Iterable[NDArray[Any]], H: Sequence[float]) -> NDArray[Any]:
    """Eq. (3), w(t) = 1/|H_g| Σ |H_i| w_i(t): the average of n models of one shape, read one by one.

    `H` has their sizes of data. The paper writes H_i for |H_i|. Raises InputError where there is none.
    """
    total: NDArray[Any] | None = None
    for one, share in zip(weights, np.asarray(H, float) / np.sum(H), strict=True):
        part: NDArray[Any] = one * one.dtype.type(share)
        if total is None:
            total = part
        else:
            total += part
    if total is None:
        raise InputError("there are no models to average")
    return total


def log_likelihood(log_probabilities: Iterable[Array]) -> float:
    """Eq. (4), Σ_{(x,y)∈Z} Σ_t log P_{w+Δw̃}(y_t | x, y_<t): what tuning raises (nats).

    `log_probabilities` has a row of log P for each (x, y), one number a token.
    """
    return float(sum(row.sum() for row in log_probabilities))


# ---- computation: Eq. (5) and (6) ----------------------------------------------------------------


def T_u_cmp_s(p: Parameters) -> Array:
    """Eq. (5), ξ_i |H_i| |w_i| / f_{u_i}: seconds of a local training on the whole history, (n,)."""
    return _each(p, p.xi_cycles_per_byte_parameter * p.H_bytes * p.w_parameters / p.f_u_hz)


def T_g_cmp_s(p: Parameters) -> float:
    """Eq. (5), α_j Σ_{i=1}^n |w_i| / f_{g_j}: seconds of averaging the models of all n."""
    return p.alpha_cycles_per_parameter * float(_each(p, p.w_parameters).sum()) / p.f_g_hz


def T_u_cmp_tilde_s(p: Parameters) -> Array:
    """Eq. (6), ξ̃_i |S_{s,i}| |w̃_i| / f_{u_i}: seconds of tuning an adapter on the static state, (n,)."""
    return _each(p, p.xi_tilde_cycles_per_byte_parameter * p.S_s_bytes * p.w_tilde_parameters / p.f_u_hz)


def T_g_cmp_tilde_s(p: Parameters) -> Array:
    """Eq. (6), α_j |w̃_i| / f_{g_j}: seconds of loading the one adapter that is asked, (n,)."""
    return _each(p, p.alpha_tilde_cycles_per_parameter * p.w_tilde_parameters / p.f_g_hz)


# ---- communication: Eq. (7) to (9) ---------------------------------------------------------------


def sub_channels(C_0: int, weights: Sequence[float]) -> NDArray[np.int64]:
    """Eq. (7), Σ c_u + Σ c_g ≤ C_0: all C_0 sub-channels dealt out by weight, entities and servers alike.

    Whole ones, each its share rounded down and the rest to the largest remainders, and at least one each.
    Raises InputError where there are too few for that, or a weight is not positive.
    """
    wanted = np.asarray(weights, float)
    if not len(wanted) or len(wanted) > C_0 or not (wanted > 0).all():
        raise InputError(f"{C_0} sub-channels cannot be dealt out to {len(wanted)} with weights above 0")
    # One each first, so that nobody is left without; the rest in proportion.
    shares = (C_0 - len(wanted)) * wanted / wanted.sum()
    dealt: NDArray[np.int64] = np.floor(shares).astype(np.int64) + 1
    rest = C_0 - int(dealt.sum())
    dealt[np.argsort(dealt - shares, kind="stable")[:rest]] += 1
    return dealt


def r_bytes_per_s(c: NDArray[np.int64], C_0: int, B_hz: float, gamma: Numbers) -> Array:
    """Eq. (7), r = c_u/C_0 B log(1 + γ): bytes a second over `c` of C_0 sub-channels.

    B is the whole bandwidth, which the text below the equation calls W. The channel state γ is taken as the
    ratio of signal to noise (not in dB) and the logarithm as that to base 2, which gives bits (Shannon).
    """
    return np.asarray(c / C_0 * B_hz * np.log2(1 + np.asarray(gamma, float)) / 8)


def w_bytes(p: Parameters) -> Numbers:
    """|w| as it is sent (bytes)."""
    return p.w_parameters * p.b_bytes_per_parameter


def w_tilde_bytes(p: Parameters) -> Numbers:
    """|w̃| as it is sent (bytes)."""
    return p.w_tilde_parameters * p.b_tilde_bytes_per_parameter


def T_u_intra_s(p: Parameters) -> Array:
    """Eq. (8), (|w_i| + |S_i|) / r_i: seconds in which an entity sends model and state, (n,)."""
    return _each(p, (w_bytes(p) + p.S_bytes) / p.r_bytes_per_s)


def T_g_inter_s(p: Parameters) -> float:
    """Eq. (8), T_g^cmp: federated twins learn of each other (seconds) by averaging."""
    return T_g_cmp_s(p)


def T_u_intra_tilde_s(p: Parameters) -> Array:
    """Eq. (9), (|w̃_i| + |S̃_{d,i}|) / r_i: seconds in which an entity sends adapter and prompts, (n,)."""
    return _each(p, (w_tilde_bytes(p) + p.S_d_tilde_bytes) / p.r_bytes_per_s)


def T_g_inter_tilde_s(p: Parameters) -> float:
    """Eq. (9), |H̃| / r_N: seconds in which the prompts of all are searched.

    The paper calls r_N the rate of a virtual network "such as the parameter aggregation computation rate",
    and the time that of "searching context information from the prompt database". A rate of searching is
    what both can mean: bytes of prompts a second. It is a constant only for a search that reads all of them;
    with an index r_N grows with |H̃|.
    """
    return p.H_tilde_bytes / p.r_N_bytes_per_s


# ---- the whole: Eq. (10) to (13) -----------------------------------------------------------------


def T_fl_s(p: Parameters) -> Array:
    """Eq. (10), K(max{T_u^cmp} + T_g^cmp + (|w(t)| + |w(t+1)|)/r_i) + |H_i|/r_i: seconds, (n,).

    The first line of the equation; its second leaves out the maximum. Both transfers have one size. The
    history is sent, where Eq. (8) has the state: as printed.
    """
    rounds = T_u_cmp_s(p).max() + T_g_cmp_s(p) + 2 * w_bytes(p) / p.r_bytes_per_s
    return _each(p, p.K_rounds * rounds + p.H_bytes / p.r_bytes_per_s)


def T_llm_twin_s(p: Parameters) -> Array:
    """Eq. (11), 1/λ (T̃_u^cmp + T̃_g^cmp + |w̃_i|/r_i) + |S̃_{d,i}|/r_i + T̃_g^inter: seconds, (n,).

    λ is called a periodicity and divides, so it is a period: how many synchronisations of dynamic state come
    to one of the static. The paper spreads only LLM-Twin's learning over it, though a federated model that is
    kept as long would gain as much. As printed; K = λ = 1 compares alike.
    """
    static = T_u_cmp_tilde_s(p) + T_g_cmp_tilde_s(p) + w_tilde_bytes(p) / p.r_bytes_per_s
    dynamic = p.S_d_tilde_bytes / p.r_bytes_per_s
    return _each(p, static / p.lambda_syncs + dynamic + T_g_inter_tilde_s(p))


def constraints(p: Parameters) -> dict[str, bool]:
    """Eq. (12), and the orders of size in Eq. (6) and (9): which hold for every entity; ≪ is by MUCH."""
    w, w_tilde, S, S_s = p.w_parameters, p.w_tilde_parameters, p.S_bytes, p.S_s_bytes
    held = {
        "|S̃_d| ≪ |S|": MUCH * p.S_d_tilde_bytes <= S,
        "|S̃_d| ≪ |S_d|": MUCH * p.S_d_tilde_bytes <= p.S_d_bytes,
        "|S_d| ≪ |S|": MUCH * p.S_d_bytes <= S,
        "|S_s| ≪ |H|": MUCH * S_s <= p.H_bytes,
        "|S_s| < |S|": S_s < S,
        "|w̃| ≪ |w|": MUCH * w_tilde <= w,
        "|S_s||w̃| - |S||w| < 0": S_s * w_tilde - S * w < 0,
        "|w̃| - Σ|w| < 0": w_tilde < _each(p, w).sum(),
        "(|w̃| + |S̃_d|) - (|w| + |S|) < 0": w_tilde_bytes(p) + p.S_d_tilde_bytes < w_bytes(p) + S,
        "r_N ≫ r": MUCH * p.r_bytes_per_s <= p.r_N_bytes_per_s,
    }
    return {name: bool(np.all(one)) for name, one in held.items()}


def difference_s(p: Parameters) -> dict[str, Array]:
    """T_LLM-Twin - T_fl at K = λ = 1, as it follows from Eq. (10) and (11): seconds by term, (n,) each."""
    sent = w_tilde_bytes(p) + p.S_d_tilde_bytes - (2 * w_bytes(p) + p.H_bytes)
    return {
        "entity": T_u_cmp_tilde_s(p) - T_u_cmp_s(p).max(),
        "server": T_g_cmp_tilde_s(p) - T_g_cmp_s(p),
        "transfer": _each(p, sent / p.r_bytes_per_s),
        "search": _each(p, T_g_inter_tilde_s(p)),
    }


def difference_printed_s(p: Parameters) -> dict[str, Array]:
    """Eq. (13) as it is printed: seconds by term, (n,) each. It is not the difference of Eq. (10) and (11).

    Its entity trains on S, where Eq. (10) has H, and tunes on S̃_d, where Eq. (11) has S_s, both with ξ; and
    of the transfers |w(t+1)| is dropped and H is S.
    """
    w, w_tilde, xi = p.w_parameters, p.w_tilde_parameters, p.xi_cycles_per_byte_parameter
    sent = w_tilde_bytes(p) + p.S_d_tilde_bytes - (w_bytes(p) + p.S_bytes)
    averaged = p.alpha_cycles_per_parameter * (w_tilde - _each(p, w).sum()) / p.f_g_hz
    return {
        "entity": _each(p, xi * (p.S_d_tilde_bytes * w_tilde - p.S_bytes * w) / p.f_u_hz),
        "server": _each(p, averaged),
        "transfer": _each(p, sent / p.r_bytes_per_s),
        "search": _each(p, T_g_inter_tilde_s(p)),
    }


def _each(p: Parameters, numbers: Numbers) -> Array:
    return np.array(np.broadcast_to(np.asarray(numbers, float), (p.n,)))
