"""The torch engine against transformers + peft: same tokens, same logits, and no row disturbs another."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from llmtwin.errors import InputError
from llmtwin.models.base import Base
from llmtwin.models.engine.api import Completion, Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine, TorchEngineOptions
from llmtwin.models.lora import Lora
from tests.models import WORDS, tiny_base

KINDS = ("llama", "qwen2")


def random_adapter(base: Base, folder: Path, seed: int, rank: int = 4, first: int | None = None) -> None:
    """An adapter that changes what the model says, from layer `first` on, else above the trunk."""
    lora = Lora.fresh(base.config, rank, base.config.boundary if first is None else first, seed)
    generator = torch.Generator().manual_seed(seed)
    b = {key: torch.randn(t.shape, generator=generator) * 0.2 for key, t in lora.b.items()}
    Lora(rank, lora.first, lora.a, b).save(folder, str(base.folder))


def prompts(base: Base, count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [base.chat(turn(" ".join(rng.choices(WORDS.split(), k=rng.randint(1, 14))))) for _ in range(count)]


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), request.param)


@pytest.fixture(scope="module")
def adapters(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for seed in range(16):
        # Every other one touches the trunk, too, as a voice does.
        random_adapter(base, folder / f"a{seed}", seed, rank=2 + seed % 3, first=0 if seed % 2 else None)
    return folder


@pytest.fixture(scope="module")
def engine(base: Base, adapters: Path) -> TorchEngine:
    return TorchEngine(base, lambda name: adapters / name, dtype=torch.float32)


@pytest.fixture(scope="module")
def reference(base: Base, adapters: Path) -> Callable[[str, str | None], tuple[list[int], torch.Tensor]]:
    """Greedy tokens and the logits after the prompt, by transformers and peft."""
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32),
        adapters / "a0",
        adapter_name="a0",
    )
    for seed in range(1, 16):
        model.load_adapter(adapters / f"a{seed}", adapter_name=f"a{seed}")

    def run(prompt: str, adapter: str | None) -> tuple[list[int], torch.Tensor]:
        ids = torch.tensor([base.encode(prompt)])
        with torch.no_grad():
            if adapter is None:
                with model.disable_adapter():
                    return _greedy(model, ids)
            model.set_adapter(adapter)
            return _greedy(model, ids)

    def _greedy(model: torch.nn.Module, ids: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        logits = model(input_ids=ids).logits[0, -1]
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )
        new = out[0, ids.shape[1] :].tolist()
        return [t for t in new if t not in base.end_ids], logits

    return run


def test_same_greedy_tokens_as_transformers_and_peft_on_50_prompts(
    base: Base, engine: TorchEngine, reference: Callable[[str, str | None], tuple[list[int], torch.Tensor]]
) -> None:
    asked = prompts(base, 50)
    names = [None if i % 4 == 0 else f"a{i % 16}" for i in range(50)]
    got = engine.generate(
        [Request(p, (n,) if n else (), tokens_max=12) for p, n in zip(asked, names, strict=True)]
    )
    for prompt, name, completion in zip(asked, names, got, strict=True):
        assert list(completion.token_ids) == reference(prompt, name)[0]


def test_first_token_log_probabilities_match_the_reference(
    base: Base, engine: TorchEngine, reference: Callable[[str, str | None], tuple[list[int], torch.Tensor]]
) -> None:
    for prompt in prompts(base, 5, seed=1):
        expected = torch.log_softmax(reference(prompt, "a1")[1], dim=-1).max()
        (completion,) = engine.generate([Request(prompt, ("a1",), tokens_max=1)])
        assert completion.logprobs[0] == pytest.approx(float(expected), abs=1e-3)


def test_a_batch_of_16_adapters_gives_each_what_it_gets_alone(base: Base, engine: TorchEngine) -> None:
    requests = [Request(p, (f"a{i}",), tokens_max=10) for i, p in enumerate(prompts(base, 16, seed=2))]
    together = engine.generate(requests)
    for request, completion in zip(requests, together, strict=True):
        assert engine.generate([request])[0].token_ids == completion.token_ids


def test_two_adapters_stack_as_peft_loads_their_concatenation(base: Base, engine: TorchEngine) -> None:
    prompt = prompts(base, 1, seed=3)[0]
    alone = [engine.generate([Request(prompt, (n,), tokens_max=8)])[0].logprobs for n in ("a1", "a2")]
    stacked = engine.generate([Request(prompt, ("a1", "a2"), tokens_max=8)])[0].logprobs
    assert stacked not in alone
    assert engine.generate([Request(prompt, ("a2", "a1"), tokens_max=8)])[0].logprobs == pytest.approx(
        stacked, abs=1e-3
    )


def test_score_is_the_sum_of_the_generated_log_probabilities(base: Base, engine: TorchEngine) -> None:
    for prompt in prompts(base, 6, seed=4):
        completion = engine.generate([Request(prompt, ("a3",), tokens_max=6)])[0]
        if completion.finish == "length" and base.encode(completion.text) == list(completion.token_ids):
            (score,) = engine.score([(prompt, completion.text, ("a3",))])
            assert score == pytest.approx(sum(completion.logprobs), abs=1e-2)


def test_shared_prefixes_change_nothing(base: Base, adapters: Path) -> None:
    bare = TorchEngine(base, lambda name: adapters / name, TorchEngineOptions(prefixes_max=0), torch.float32)
    warm = TorchEngine(base, lambda name: adapters / name, dtype=torch.float32)
    requests = [Request(p, (f"a{i % 3}",), tokens_max=6) for i, p in enumerate(prompts(base, 12, seed=5))]
    warm.generate(requests)
    cold = [c.token_ids for c in bare.generate(requests)]
    assert [c.token_ids for c in warm.generate(requests)] == cold
    assert warm._prefixes._entries and not bare._prefixes._entries


def test_a_completion_obeys_its_json_schema(base: Base, engine: TorchEngine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "door": {"enum": ["open", "closed"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["door", "count"],
        "additionalProperties": False,
    }
    for completion in engine.generate(
        [Request(p, tokens_max=60, grammar=json.dumps(schema)) for p in prompts(base, 5, seed=6)]
    ):
        read = json.loads(completion.text)
        assert read["door"] in ("open", "closed") and 0 <= read["count"] <= 9


def test_a_bad_grammar_hurts_only_its_own_request(base: Base, engine: TorchEngine) -> None:
    with pytest.raises(InputError):
        engine.generate([Request(prompts(base, 1)[0], grammar="no grammar at all")])
    assert engine.generate([Request(prompts(base, 1)[0], tokens_max=2)])[0].tokens_completion <= 2


def test_a_prompt_beyond_the_positions_of_the_base_hurts_only_its_own_request(
    base: Base, engine: TorchEngine
) -> None:
    short, long = prompts(base, 1)[0], base.chat(turn("on " * 1000))
    said = f"takes {len(base.encode(long)) + 1} tokens, and the base reads {base.config.positions}:"
    alone = engine.generate([Request(short, ("a1",), tokens_max=4)])[0].token_ids
    futures: list[Future[Completion]] = [Future(), Future()]
    engine._generate(
        [(Request(p, ("a1",), tokens_max=4), f) for p, f in zip((long, short), futures, strict=True)]
    )
    with pytest.raises(InputError, match=said):
        futures[0].result()
    assert futures[1].result().token_ids == alone
    with pytest.raises(InputError, match="the base reads 512"):
        engine.score([(short, "on", ("a1",)), (long, "on", ("a1",))])
    with pytest.raises(InputError, match="the base reads 512"):
        engine.score([(short, "on " * 1000, ("a1",))])


def test_a_completion_ends_where_the_base_reads_no_further(base: Base, engine: TorchEngine) -> None:
    prompt = base.chat(turn("on"))
    while len(base.encode(prompt)) < base.config.positions - 3:
        prompt += "\n"
    asked = Request(prompt, tokens_max=64, grammar=json.dumps({"type": "string", "minLength": 64}))
    (made,) = engine.generate([asked])
    assert made.finish == "length" and made.tokens_prompt + made.tokens_completion == base.config.positions


def test_sampling_repeats_with_its_seed_and_varies_without(base: Base, engine: TorchEngine) -> None:
    prompt = prompts(base, 1, seed=7)[0]

    def draw(seed: int) -> tuple[int, ...]:
        return engine.generate([Request(prompt, tokens_max=12, temperature=1.5, seed=seed)])[0].token_ids

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(5)}) > 1


def test_adapters_beyond_the_budget_are_dropped_and_come_back(base: Base, adapters: Path) -> None:
    small = TorchEngine(
        base, lambda name: adapters / name, TorchEngineOptions(adapter_bytes_max=1), torch.float32
    )
    prompt = prompts(base, 1, seed=8)[0]
    first = small.generate([Request(prompt, ("a0",), tokens_max=5)])[0].token_ids
    small.generate([Request(prompt, ("a1",), tokens_max=5)])
    assert len(small._adapters._stacks) == 1
    assert small.generate([Request(prompt, ("a0",), tokens_max=5)])[0].token_ids == first
