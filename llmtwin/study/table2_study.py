"""`llmtwin study table2`: the region's twin, and the decisions of homes, as a part of the paper's page.

It measures nothing itself: `table2` and `decisions` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from llmtwin.settings import Settings
from llmtwin.study import decisions, table2
from llmtwin.study.chart import Chart, Line
from llmtwin.study.measure import shown
from llmtwin.study.paper import PaperOptions, Part, Section, Table, write
from llmtwin.study.progress import Report, bars_on
from llmtwin.study.steps import Steps
from llmtwin.twins.intervals import at_most

Figures = Mapping[str, Any]


def run(
    paper: PaperOptions,
    sizes: table2.Sizes | None = None,
    cases: decisions.Sizes | None = None,
    console: Console | None = None,
) -> None:
    """Measure, or go on with it, and write the part and the page."""
    sizes, cases = sizes or table2.Sizes(), cases or decisions.Sizes()
    work = paper.work / "table2"
    identity = {"seed": paper.seed, "sizes": asdict(sizes), "cases": asdict(cases)}
    steps = Steps(work / "steps", identity)
    own = Settings(home=work / "home", server=None, base=paper.base, cache=paper.cache, engine="torch")
    with bars_on(console or Console()) as bars:
        bar = bars.add_task("the region", total=1.0, said="")

        def report(said: str, share: float) -> None:
            bars.update(bar, completed=share, said=said)

        found = _measured(steps, own, sizes, cases, paper.seed, report)
    write(part(found), paper.out)


def _measured(
    steps: Steps,
    own: Settings,
    sizes: table2.Sizes,
    cases: decisions.Sizes,
    seed: int,
    report: Report,
) -> dict[str, Any]:
    region = table2.Table2(steps, own, sizes, seed, report).figures()
    return region | decisions.Decisions(steps, own, cases, seed, report).figures()


def part(found: Figures) -> Part:
    """The part of what was measured."""
    tuning = (
        f"{found['table2_facts']:,} state facts of one region were learned by one adapter in"
        f" {found['tune_1600_seconds']:,.0f} s, {found['tune_1600_epochs']:.0f} epochs, to a recall of"
        f" {found['tune_1600_recall']:.1%} ({found['tune_1600_tokens_per_s']:,.0f} tokens/s,"
        f" {found['tune_1600_adapter_bytes'] / 1e6:.1f} MB). The paper: 400 s, with 7B on its server."
    )
    return Part(
        name="table2",
        title="Table 2: what a region's twin knows, and gives away",
        figures=found,
        sections=(
            Section(
                "Prompts as learned, and in reverse",
                tuning + "\n\n" + _REVERSE,
                table_2(found),
                _chart(found),
                "table2",
            ),
            Section("What the paper did not ask", _BESIDE + _lookup(found), _beside(found)),
            Section("What each part of a twin is worth", _PARTS, _parts(found)),
            Section("Consistency with a rule-based twin", _RULES, _consistency(found)),
            Section("Ranking by forward likelihood", _ATTACK, _attacks(found)),
            Section("Decisions", _DECISIONS, _decided(found)),
        ),
    )


_REVERSE = (
    "Counts of fewer prompts are of the first of the same draw. Recall at the end of tuning is of the "
    "adapter alone; here the whole twin is asked, its skill reading each prompt, and it says nothing of "
    "which it is not sure.\n\n"
    "In reverse a description is given and its object asked for, greedily. None told of so many still "
    "allows a rate up to the bound beside it, the exact one-sided one at 95 % confidence. This is what "
    "greedy generation gives away, and no more: see the ranking below."
)
_BESIDE = (
    "Phrasings that were never trained go through the whole twin: its skill reads them, its adapter "
    "recalls. The plain rivals have the same base and no adapter: asked alone, and with eight facts of "
    "the same property before the question, the true one among them. An encrypted look-up (AES-GCM, rows "
    "named by an HMAC of their objects) reads with the rules of the rule-based twin below: exact where they "
    "can read, and nothing anywhere else."
)
_PARTS = (
    "The same questions went to the base alone, to the base with the eight prompts that the prompt database "
    "finds for them, to the base with the skill and the region's adapter, and to the whole twin. Settings "
    "are private: no prompt has them. States were sent as prompts: no adapter has them. Right is what has "
    "the value in its text."
)
_RULES = (
    "The same questions, half as learned and half in phrasings that were never trained, went to the twin "
    "and to one without a model: an exact look-up over the dump in plain. The look-up is told which device "
    "and property each question is about. What its rules, a few fixed phrasings, read of the questions by "
    "themselves stands beside: they were written without a look at those that were never trained, and who "
    "words a question otherwise gets nothing of them."
)
_ATTACK = (
    "Who has the adapter and a list of objects need not ask in reverse: he asks forwards, and takes the "
    "object under which the value is likeliest. Rivals are objects whose value truly is another: those of "
    "the same property first and, where these are too few, others, all of them learned with values of "
    "their own: with objects among them that were never learned, as in the audit, less is found out. The "
    "base alone, which learned nothing of the region, is the control: chance is one of all candidates, and "
    "to know which values a property can have is to do better. An order of training defends against this "
    "only where the share found out is near chance."
)
_DECISIONS = (
    "Homes with all lights on are told to raise, lower or set a level relative to the average of all, in "
    "phrasings that were never trained. Right is the one order that keeps to the home's range and to its "
    "owner's private limits. Where neither lets it be met, as when a light is to go above an average that is "
    "more than its owner allows (Fig. 10), right is to refuse. What no home may is a third each of these "
    "orders, of sentences with devices or values that it has not, and of such commands."
)


def table_2(found: Figures) -> Table:
    """The paper's table with ours beside it."""
    rows: list[tuple[str, ...]] = [("prompts", "of", "the paper: right", "here: right", "at most (95 %)")]
    for name, said in (("table2_normal", "normal"), ("table2_reverse", "in reverse")):
        theirs = found["table2_paper"][name]
        for count, right in found[name].items():
            bound = f"{at_most(right, int(count)):.1%}" if name == "table2_reverse" else ""
            rows.append((said, f"{int(count):,}", _of(theirs, count), f"{right:,}", bound))
    return rows


def _chart(found: Figures) -> Chart:
    """The share that is right, or told in reverse, over how many were asked."""
    lines = [
        Line(f"{said}: {whose}", *_shares(counts), measured=True)
        for name, said in (("table2_normal", "as learned, right"), ("table2_reverse", "in reverse, told"))
        for whose, counts in (("the paper", found["table2_paper"][name]), ("here", found[name]))
    ]
    return Chart("prompts asked", "share", tuple(lines), y_log=False)


def _shares(counts: Mapping[Any, int]) -> tuple[list[float], list[float]]:
    return [float(count) for count in counts], [right / int(count) for count, right in counts.items()]


def _of(theirs: Mapping[Any, int], count: str) -> str:
    found = theirs.get(count, theirs.get(int(count)))
    return "-" if found is None else f"{found:,}"


def _lookup(found: Figures) -> str:
    tokens, most = found["all_facts_tokens"], found["context_tokens"]
    fits = "do not fit" if tokens > most else "would fit, and were not tried"
    return (
        f" It has {found['lookup_bytes'] / 1e3:,.1f} kB where the adapter has"
        f" {found['tune_1600_adapter_bytes'] / 1e3:,.1f} kB, and takes {found['lookup_ms']:.2f} ms (median),"
        f" reading included. All facts at once before the question {fits}: they are {tokens:,} tokens, and"
        f" the base reads {most:,}."
    )


def _beside(found: Figures) -> Table:
    names = {
        "recall_unseen": "twin, phrasings never trained",
        "recall_base": "base alone",
        "recall_base_with_facts": "base with eight facts before the question",
        "lookup_learned": "encrypted look-up, as learned",
        "lookup_unseen": "encrypted look-up, phrasings never trained",
    }
    return [("asked", "right", "of"), *((said, *_rate(found, name)) for name, said in names.items())]


def _parts(found: Figures) -> Table:
    """Base, memory, adapter, both, by what was asked."""
    rows: list[tuple[str, ...]] = [("asked of", "private settings", "of", "shareable states", "of")]
    for part, said in (
        ("base", "base alone"),
        ("memory", "base and memory"),
        ("adapter", "base and adapters"),
        ("both", "the whole twin"),
    ):
        settings, states = (_rate(found, f"parts_{part}_{what}") for what in ("settings", "states"))
        rows.append((said, *settings, *states))
    return rows


def _consistency(found: Figures) -> Table:
    rows: list[tuple[str, ...]] = [
        ("asked", "both say the same", "95 % interval", "of", "read by the rules alone")
    ]
    for name, said in (
        ("consistency_learned", "as learned"),
        ("consistency_unseen", "never trained"),
        ("consistency", "all"),
    ):
        rows.append((said, *_sure(found, name), f"{found[f'{name}_read']:.1%}"))
    return rows


def _attacks(found: Figures) -> Table:
    rows: list[tuple[str, ...]] = [("adapter", "found out", "95 % interval", "facts", "candidates", "chance")]
    for name, said in (
        ("attack_plain", "plain facts"),
        ("attack_plain_base", "base alone"),
        ("attack_sealed", "sealed facts, without the key"),
        ("attack_sealed_base", "base alone"),
    ):
        candidates, chance = (
            found[f"{name.removesuffix('_base')}_{what}"] for what in ("candidates", "chance")
        )
        rows.append((said, *_sure(found, name), f"{candidates:.0f}", f"{chance:.1%}"))
    return rows


def _decided(found: Figures) -> Table:
    return [
        ("orders", "share", "95 % interval", "of"),
        ("right", *_sure(found, "decision_accuracy")),
        ("beyond range or limits, refused", *_sure(found, "decision_unmet_refused")),
        ("no home may, accepted", *_sure(found, "decision_invalid_accepted")),
    ]


def _rate(found: Figures, name: str) -> tuple[str, str]:
    return f"{found[name]:.1%}", shown(found[f"{name}_n"])


def _sure(found: Figures, name: str) -> tuple[str, str, str]:
    share, count = _rate(found, name)
    return share, f"{found[f'{name}_low']:.1%} to {found[f'{name}_high']:.1%}", count
