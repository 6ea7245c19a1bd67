"""Tuning: what is learned, what repeats, what survives a kill, and what stock peft makes of the result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from llmtwin.errors import InputError
from llmtwin.models.base import UPPER_SHARE, Base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.lora import Fused, Lora, shapes, stack
from llmtwin.models.transformer import Transformer, causal, packed
from llmtwin.models.tune import Progress, TuneOptions, prefer, render, tune
from llmtwin.records import Example, Preference
from tests.models import tiny_base

ROOMS = ("bedroom", "kitchen", "front door")
THINGS = ("lamp", "light", "code", "brightness")
FACTS = [
    Example(prompt=f"what is the {thing} of the {room}", completion=f"{17 * place % 90 + 10} percent")
    for place, (room, thing) in enumerate((room, thing) for room in ROOMS for thing in THINGS)
]
QUICK = TuneOptions(
    layers_share=UPPER_SHARE, learning_rate=1e-2, batch_tokens=256, epochs_max=60, epochs_falling=60
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def any_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), request.param)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def transformer(base: Base) -> Transformer:
    return Transformer(base, torch.float32)


def noise(base: Base, seed: int, rank: int = 4) -> Lora:
    """An adapter that changes what the model says, as stored."""
    lora = Lora.fresh(base.config, rank, base.config.boundary, seed)
    generator = torch.Generator().manual_seed(seed)
    b = {key: torch.randn(t.shape, generator=generator) * 0.2 for key, t in lora.b.items()}
    return replace(lora, b=b).rounded()


def said(base: Base, prompts: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """What the engine completes under a stack of saved adapters."""
    engine = TorchEngine(base, lambda name: folders[int(name)], dtype=torch.float32)
    names = tuple(str(place) for place in range(len(folders)))
    asked = [Request(base.chat(turn(prompt)), names, tokens_max=12) for prompt in prompts]
    return [completion.text for completion in engine.generate(asked)]


def same(one: Lora, other: Lora) -> bool:
    pairs = [(one.a, other.a), (one.b, other.b)]
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in pairs)


def test_twelve_facts_are_learned_to_full_recall(any_base: Base, tmp_path: Path) -> None:
    heard: list[Progress] = []
    tuned = tune(Transformer(any_base, torch.float32), FACTS, QUICK, report=heard.append)
    assert len(FACTS) == len(tuned.recalled) == 12 and all(tuned.recalled)
    assert tuned.history[-1].loss < 0.2 < tuned.history[0].loss
    assert heard[-1].epoch == len(tuned.history) <= QUICK.epochs_max
    tuned.lora.save(tmp_path, any_base.name)
    assert said(any_base, [f.prompt for f in FACTS], [tmp_path]) == [f.completion for f in FACTS]


def test_a_twin_learns_on_top_of_a_skill_that_stays_as_it_is(
    base: Base, transformer: Transformer, tmp_path: Path
) -> None:
    skill = noise(base, seed=5)
    before = {key: t.clone() for key, t in skill.b.items()}
    tuned = tune(transformer, FACTS, QUICK, under=skill)
    assert all(tuned.recalled)
    assert all(torch.equal(skill.b[key], t) for key, t in before.items())
    skill.save(tmp_path / "skill", base.name)
    tuned.lora.save(tmp_path / "twin", base.name)
    prompts, truth = [f.prompt for f in FACTS], [f.completion for f in FACTS]
    assert said(base, prompts, [tmp_path / "skill", tmp_path / "twin"]) == truth
    assert said(base, prompts, [tmp_path / "twin"]) != truth


def test_learning_goes_on_from_an_earlier_adapter(transformer: Transformer) -> None:
    first = tune(transformer, FACTS, QUICK)
    changed = [FACTS[0].model_copy(update={"completion": "off"}), *FACTS[1:]]
    again = tune(transformer, changed, QUICK, start=first.lora)
    assert all(again.recalled)
    assert again.history[0].loss < first.history[0].loss
    assert len(again.history) < len(first.history)


@pytest.mark.parametrize("common", [0, 1, 3])
def test_rows_packed_behind_what_they_begin_with_are_as_each_is_alone(
    transformer: Transformer, common: int
) -> None:
    rows, length, layers = 4, 5, range(transformer.config.layers)
    begin, *each = torch.randn(rows + 1, max(common, length), transformer.config.hidden).unbind()
    begin, each = begin[:common], [row[:length] for row in each]
    places = torch.cat([torch.arange(common), torch.arange(common, common + length).repeat(rows)])
    together = transformer.run(
        torch.cat([begin, *each])[None],
        transformer.rope(places[None]),
        packed(rows, length, common, transformer.dtype),
        layers,
    )
    for number, row in enumerate(each):
        rope = transformer.rope(torch.arange(common + length)[None])
        attend = causal(common + length, transformer.dtype)
        alone = transformer.run(torch.cat([begin, row])[None], rope, attend, layers)[0]
        start = common + number * length
        found = torch.cat([together[0, :common], together[0, start : start + length]])
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_a_seed_repeats_exactly_and_another_does_not(transformer: Transformer) -> None:
    options = replace(QUICK, epochs_max=4)
    one, two = (tune(transformer, FACTS, options) for _ in range(2))
    assert same(one.lora, two.lora)
    assert [entry.loss for entry in one.history] == [entry.loss for entry in two.history]
    assert not same(one.lora, tune(transformer, FACTS, replace(options, seed=1)).lora)


@pytest.mark.parametrize("stop", [True, False])
def test_what_is_recalled_rests_unless_told_not_to(transformer: Transformer, stop: bool) -> None:
    tuned = tune(transformer, FACTS, replace(QUICK, epochs_max=40, stop_when_complete=stop))
    whole = sum(len(render(transformer.base, fact)[0]) for fact in FACTS) * len(tuned.history)
    assert tuned.history[-1].recall == 1
    assert tuned.recalled == ((True,) * len(FACTS) if stop else ())
    assert (tuned.tokens < whole) if stop else (tuned.tokens == whole)


def test_a_run_goes_on_until_the_mean_that_is_stored_recalls_all(transformer: Transformer) -> None:
    """All is one batch: the last step recalls it surely long before the mean over 30 steps does."""
    one_batch = replace(QUICK, batch_tokens=4096, epochs_max=200)
    last = tune(transformer, FACTS, one_batch)
    mean = tune(transformer, FACTS, replace(one_batch, average_share=30 / 200))
    assert all(last.recalled) and all(mean.recalled)
    assert len(last.history) + 5 < len(mean.history) < 200


def test_b_learns_so_many_times_faster_than_a(transformer: Transformer) -> None:
    start = noise(transformer.base, seed=2, rank=8)
    options = replace(QUICK, epochs_max=1, learning_rate=1e-4, batch_tokens=10_000)
    plain, fast = (
        tune(transformer, FACTS, replace(options, rate_ratio=ratio), start=start).lora
        for ratio in (1.0, 64.0)
    )

    def moved(lora: Lora) -> tuple[float, float]:
        """The largest change of a weight of A, and of B: of one step of Adam, the rate itself."""
        pairs = ((lora.a, start.a), (lora.b, start.b))
        a, b = (max(float((new[key] - old[key]).abs().max()) for key in new) for new, old in pairs)
        return a, b

    assert moved(fast)[0] == moved(plain)[0] < moved(plain)[1] * 30 < moved(fast)[1]


def test_what_is_stored_is_the_running_mean_of_the_steps(transformer: Transformer) -> None:
    one_step = replace(QUICK, batch_tokens=4096, stop_when_complete=False)
    steps = [tune(transformer, FACTS, replace(one_step, epochs_max=count)).lora for count in (1, 2, 3)]
    averaged = tune(transformer, FACTS, replace(one_step, epochs_max=3, average_share=0.5)).lora
    begun = Lora.fresh(transformer.config, QUICK.rank, averaged.first, QUICK.seed)
    for half in ("a", "b"):
        for key, mean in getattr(begun, half).items():
            for step in steps:
                mean = mean + (getattr(step, half)[key] - mean) / 1.5
            found, last = getattr(averaged, half)[key], getattr(steps[-1], half)[key]
            rounding = 2**-7 * float(last.abs().max())
            assert torch.allclose(found, mean, atol=rounding)
            assert half == "a" or float((found - last).abs().max()) > 8 * rounding


def test_a_few_are_learned_first_where_they_are_many(transformer: Transformer) -> None:
    options = replace(QUICK, batch_tokens=64, few_share=0.25, few_epochs=3, stop_when_complete=False)
    few = tune(transformer, FACTS, replace(options, epochs_max=3))
    every = tune(transformer, FACTS, replace(options, epochs_max=4))
    whole = sum(len(render(transformer.base, fact)[0]) for fact in FACTS)
    assert 0 < few.tokens < 3 * whole / 2
    assert every.tokens == few.tokens + whole


def test_layers_below_the_adapter_are_let_go_of_and_read_again(base: Base) -> None:
    transformer, fresh = Transformer(base, torch.float32), Transformer(base, torch.float32)
    tune(transformer, FACTS, replace(QUICK, epochs_max=1))
    lower = range(base.config.boundary)
    assert lower and all(transformer.layers[index] is None for index in lower)
    assert all(transformer.layers[index] is not None for index in range(lower.stop, base.config.layers))
    ids = torch.tensor([base.encode("what is the light of the kitchen")])
    rope, attend = fresh.rope(torch.arange(ids.shape[1])[None]), causal(ids.shape[1], torch.float32)
    with torch.inference_mode():
        own, other = (
            model.run(model.embed(ids), rope, attend, range(base.config.layers))
            for model in (transformer, fresh)
        )
    assert torch.equal(own, other) and None not in transformer.layers
    tune(transformer, FACTS, replace(QUICK, epochs_max=1, layers_share=1.0))  # over what was just read


def test_only_wanted_places_come_out_as_they_would_among_all(transformer: Transformer) -> None:
    base, layers = transformer.base, range(transformer.config.layers)
    ids = torch.tensor([base.encode(base.chat(turn(fact.prompt)))[:16] for fact in FACTS[:3]])
    rope, attend = transformer.rope(torch.arange(16)[None]), causal(16, torch.float32)
    delta = Fused(noise(base, seed=3), torch.float32)
    whole = transformer.run(transformer.embed(ids), rope, attend, layers, delta)
    wanted = (torch.tensor([2, 0, 0]), torch.tensor([15, 3, 9]))
    some = transformer.run(transformer.embed(ids), rope, attend, layers, delta, wanted)
    torch.testing.assert_close(some, whole[wanted])


def test_nothing_to_learn_is_refused(transformer: Transformer) -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        tune(transformer, [], QUICK)


def test_the_loss_is_that_of_the_completion_tokens_alone(base: Base, transformer: Transformer) -> None:
    """A fresh adapter adds nothing: the first loss of one whole batch is the stock model's own."""
    rows = [render(transformer.base, fact) for fact in FACTS]
    options = replace(QUICK, epochs_max=1, batch_tokens=10**6)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)

    def stock(from_place: int | None) -> float:
        """Mean loss in nats over tokens from `from_place` on; None is where the completion begins."""
        losses: list[Tensor] = []
        for ids, prompt in rows:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0]
            first = prompt if from_place is None else from_place
            losses.append(
                F.cross_entropy(logits[first - 1 : -1], torch.tensor(ids[first:]), reduction="none")
            )
        return float(torch.cat(losses).mean())

    loss = tune(transformer, FACTS, options).history[0].loss
    assert loss == pytest.approx(stock(None), rel=1e-4)
    assert loss != pytest.approx(stock(1), rel=1e-2)


def test_only_the_upper_layers_are_touched_and_shapes_follow_the_formula(
    base: Base, transformer: Transformer, tmp_path: Path
) -> None:
    rank, layers, hidden, kv, wide = 3, 2, 64, 32, 96
    lora = tune(transformer, FACTS[:2], replace(QUICK, rank=rank, epochs_max=1)).lora
    lora.save(tmp_path, base.name)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert {name: tuple(t.shape) for name, t in stored.items()} == shapes(base.config, rank, 3)
    # q and o: hidden to hidden; k and v: hidden to kv; gate, up and down: between hidden and wide.
    per_layer = rank * (2 * (hidden + hidden) + 2 * (hidden + kv) + 3 * (hidden + wide))
    assert sum(t.numel() for t in stored.values()) == layers * per_layer
    assert {layer for layer, _ in lora.a} == {3, 4}
    assert all(t.dtype == torch.bfloat16 for t in stored.values())


def test_an_adapter_comes_back_from_its_folder_as_it_was(base: Base, tmp_path: Path) -> None:
    lora = noise(base, seed=2)
    lora.save(tmp_path, base.name)
    assert same(Lora.load(tmp_path), lora)


@pytest.mark.parametrize("damage", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter_is_refused(base: Base, tmp_path: Path, damage: str) -> None:
    noise(base, seed=2).save(tmp_path, base.name)
    (tmp_path / damage).write_bytes(b"{}")
    with pytest.raises(InputError, match="no adapter of ours"):
        Lora.load(tmp_path)


@pytest.mark.parametrize(
    "odd",
    [{"r": 0}, {"r": "two"}, {"lora_alpha": None}, {"layers_to_transform": []}, {"layers_to_transform": 3}],
)
def test_a_config_that_cannot_be_is_refused(base: Base, tmp_path: Path, odd: dict[str, object]) -> None:
    noise(base, seed=2).save(tmp_path, base.name)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    with pytest.raises(InputError, match="no adapter of ours"):
        Lora.load(tmp_path)


def test_adapters_of_other_bases_do_not_stack(base: Base) -> None:
    deeper = replace(base.config, layers=base.config.layers + 1)
    wider = replace(base.config, hidden=2 * base.config.hidden)
    for config in (deeper, wider):
        with pytest.raises(InputError, match="same base"):
            stack([noise(base, 0), Lora.fresh(config, 4, config.boundary, 0)])


@pytest.mark.parametrize("share", [0.2, 0.4, 1.0])
def test_a_skill_and_a_twin_over_other_layers_stack_exactly(base: Base, share: float) -> None:
    transformer = Transformer(base, torch.float32)
    skill = noise(base, seed=3)
    own = tune(transformer, FACTS, replace(QUICK, layers_share=share, epochs_max=3), under=skill).lora
    x = torch.randn(1, 5, base.config.hidden, generator=torch.Generator().manual_seed(0))
    both, parts = (
        Fused(stack([skill, own]), torch.float32),
        [Fused(one, torch.float32) for one in (skill, own)],
    )
    for layer in range(base.config.layers):
        y = torch.zeros(1, 5, base.config.hidden)
        apart = parts[1].add(layer, "o", x, parts[0].add(layer, "o", x, y))
        torch.testing.assert_close(both.add(layer, "o", x, y), apart)


def test_stock_peft_loads_the_stack_over_the_stock_base_and_says_the_same(
    any_base: Base, tmp_path: Path
) -> None:
    transformer = Transformer(any_base, torch.float32)
    skill = noise(any_base, seed=3)
    both = stack([skill, tune(transformer, FACTS, QUICK, under=skill).lora])
    both.save(tmp_path, str(any_base.folder))
    stock = AutoModelForCausalLM.from_pretrained(any_base.folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(stock, tmp_path)
    for fact in FACTS:
        ids = torch.tensor([any_base.encode(any_base.chat(turn(fact.prompt)))])
        attend, rope = causal(ids.shape[1], torch.float32), transformer.rope(torch.arange(ids.shape[1])[None])
        layers = range(any_base.config.layers)
        with torch.no_grad():
            x = transformer.run(transformer.embed(ids), rope, attend, layers, Fused(both, torch.float32))
            torch.testing.assert_close(
                transformer.logits(x), peft(input_ids=ids).logits, atol=1e-3, rtol=1e-3
            )
            out = peft.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
            )
        text = any_base.tokenizer.decode(out[0, ids.shape[1] :].tolist())
        assert text == fact.completion == said(any_base, [fact.prompt], [tmp_path])[0]


RUN = replace(QUICK, epochs_max=8, average_share=0.5, stop_when_complete=False, checkpoint_seconds=0.0)
HANGS_AFTER = 5
CHILD = f"""
import sys, time
from pathlib import Path
import torch
from llmtwin.models.base import UPPER_SHARE, find_base
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import tune
from tests.test_models_tune import FACTS, RUN

def report(progress):
    if progress.epoch > {HANGS_AFTER}:
        print("hanging", flush=True)
        time.sleep(600)

torch.set_num_threads(1)
folder, cache, checkpoint = map(Path, sys.argv[1:])
base = find_base(str(folder), cache)
tune(Transformer(base, torch.float32), FACTS, RUN, checkpoint=checkpoint, report=report)
"""


@pytest.fixture(scope="module")
def killed(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a child process that hung in the epoch after HANGS_AFTER and was killed there."""
    folder = tmp_path_factory.mktemp("killed")
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", CHILD, str(base.folder), str(folder / "cache"), str(folder / "run.ckpt")]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "hanging\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    return folder / "run.ckpt"


@pytest.fixture
def checkpoint(killed: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may use up."""
    return Path(shutil.copy(killed, tmp_path))


def test_a_killed_run_goes_on_from_its_last_epoch_to_the_same_weights(
    transformer: Transformer, checkpoint: Path
) -> None:
    heard: list[Progress] = []
    resumed = tune(transformer, FACTS, RUN, checkpoint=checkpoint, report=heard.append)
    whole = tune(transformer, FACTS, RUN)
    assert heard[0].epoch == HANGS_AFTER + 1
    assert len(resumed.history) == RUN.epochs_max
    assert same(resumed.lora, whole.lora)
    again: list[Progress] = []  # the file stays until its owner has the result: nothing is learned twice
    assert same(tune(transformer, FACTS, RUN, checkpoint=checkpoint, report=again.append).lora, whole.lora)
    assert not again


@pytest.mark.parametrize(
    ("facts", "options"),
    [(FACTS[:-1], RUN), (FACTS, replace(RUN, learning_rate=1e-3))],
    ids=["facts", "options"],
)
def test_a_checkpoint_of_another_run_is_not_taken_up(
    transformer: Transformer, checkpoint: Path, facts: list[Example], options: TuneOptions
) -> None:
    heard: list[Progress] = []
    tune(transformer, facts, options, checkpoint=checkpoint, report=heard.append)
    assert heard[0].epoch == 1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_broken_checkpoint_is_begun_anew(transformer: Transformer, tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "run.ckpt"
    checkpoint.write_bytes(content)
    heard: list[Progress] = []
    tune(transformer, FACTS, replace(RUN, epochs_max=1), checkpoint=checkpoint, report=heard.append)
    assert heard[0].epoch == 1


# ---- preferences

PREFERENCES = [
    Preference(prompt=fact.prompt, chosen=fact.completion, rejected=other.completion)
    for fact, other in zip(FACTS, [*FACTS[1:], FACTS[0]], strict=True)
]
GENTLE = replace(QUICK, epochs_max=3, learning_rate=QUICK.learning_rate / 4, stop_when_complete=False)


def margin(base: Base, folder: Path) -> float:
    """By how many nats, summed, the chosen completions are likelier than the rejected ones."""
    engine = TorchEngine(base, lambda name: folder, dtype=torch.float32)
    prompts = [base.chat(turn(one.prompt)) for one in PREFERENCES]
    chosen = [(p, one.chosen, ("a",)) for p, one in zip(prompts, PREFERENCES, strict=True)]
    rejected = [(p, one.rejected, ("a",)) for p, one in zip(prompts, PREFERENCES, strict=True)]
    return sum(engine.score(chosen)) - sum(engine.score(rejected))


def test_what_was_chosen_becomes_likelier_than_what_was_not(
    base: Base, transformer: Transformer, tmp_path: Path
) -> None:
    first = tune(transformer, FACTS, replace(QUICK, epochs_max=2))
    preferred = prefer(transformer, PREFERENCES, GENTLE, start=first.lora)
    first.lora.save(tmp_path / "first", base.name)
    preferred.lora.save(tmp_path / "preferred", base.name)
    assert margin(base, tmp_path / "preferred") > margin(base, tmp_path / "first") + 1
    assert preferred.history[-1].loss < preferred.history[0].loss


def test_at_the_reference_neither_is_preferred(transformer: Transformer) -> None:
    start = tune(transformer, FACTS, replace(QUICK, epochs_max=1)).lora
    still = replace(GENTLE, learning_rate=0.0, epochs_max=1)
    found = prefer(transformer, PREFERENCES, still, start=start)
    assert same(found.lora, start)
    twice = replace(still, preference_beta=10.0)
    # log 2, whatever beta is, beside the likelihood of what was chosen.
    assert found.history[0].loss == pytest.approx(
        prefer(transformer, PREFERENCES, twice, start=start).history[0].loss, abs=1e-3
    )


def test_preferring_goes_on_where_it_was_killed(transformer: Transformer, tmp_path: Path) -> None:
    start = tune(transformer, FACTS, replace(QUICK, epochs_max=1)).lora
    whole = prefer(transformer, PREFERENCES, GENTLE, start=start)
    checkpoint, often = tmp_path / "run", replace(GENTLE, checkpoint_seconds=0.0)

    def stop(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prefer(transformer, PREFERENCES, often, start=start, checkpoint=checkpoint, report=stop)
    again = prefer(transformer, PREFERENCES, often, start=start, checkpoint=checkpoint)
    assert same(whole.lora, again.lora)


def test_there_must_be_something_to_prefer(transformer: Transformer) -> None:
    with pytest.raises(InputError, match="preferences"):
        prefer(transformer, [], QUICK, start=noise(transformer.base, 1))
