"""The critic's loss by hand and its rules for captions; embeddings of captions by small text models."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    ClapConfig,
    ClapModel,
    HubertConfig,
    HubertModel,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Model,
)

from star_hf.losses.caption_encoder import CaptionEncoder
from star_hf.losses.contrastive import ContrastiveCritic

DOG, RAIN, SEA = "a dog barking", "rain falling on a roof", "sea waves"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
T5_SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
DECODER = {"num_key_value_heads": 1, "head_dim": 8}
KINDS = {
    "bert": lambda vocab: BertModel(BertConfig(**SIZES, vocab_size=vocab)),
    "qwen3": lambda vocab: Qwen3Model(Qwen3Config(**SIZES, **DECODER, vocab_size=vocab)),
    "t5": lambda vocab: T5Model(T5Config(**T5_SIZES, vocab_size=vocab, decoder_start_token_id=0)),
    "clap": lambda vocab: ClapModel(
        ClapConfig(
            text_config={**SIZES, "vocab_size": vocab, "pad_token_id": 0},
            audio_config={
                "hidden_size": 16,
                "patch_embeds_hidden_size": 8,
                "depths": [1, 1],
                "num_attention_heads": [2, 2],
            },
        )
    ),
}


@pytest.fixture
def critic():
    return ContrastiveCritic(4, 6, hidden_size=8)


@pytest.fixture
def pair():
    return torch.randn(4, 4, 5), torch.randn(4, 6)


def by_hand(critic, latents, text_embeddings, captions):
    """The equation, sum by sum in float64."""
    audio = critic.embed_latents(latents).detach().double()
    text = critic.embed_text(text_embeddings).detach().double()
    scale = critic.log_scale.detach().double().exp()
    usable = [i for i, caption in enumerate(captions) if caption]
    total = 0.0
    for i in usable:
        compared = [i, *(j for j in usable if captions[j] != captions[i])]
        own = torch.exp(scale * audio[i] @ text[i])
        total -= torch.log(own / sum(torch.exp(scale * audio[i] @ text[j]) for j in compared))
        total -= torch.log(own / sum(torch.exp(scale * audio[j] @ text[i]) for j in compared))
    return total / (2 * len(usable))


@pytest.mark.parametrize("captions", [[DOG, RAIN, SEA, "wind"], [DOG, RAIN, DOG, ""], [DOG, RAIN, DOG, RAIN]])
def test_the_value_by_hand(critic, pair, captions):
    loss = critic(*pair, captions)
    assert loss.shape == () and loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), by_hand(critic, *pair, captions), rtol=1e-5, atol=1e-6)
    assert loss > 0.01


def test_without_captions_each_clip_has_one_of_its_own(critic, pair):
    torch.testing.assert_close(critic(*pair), critic(*pair, [DOG, RAIN, SEA, "wind"]))


def test_clips_of_one_caption_are_no_negatives_of_each_other(critic, pair):
    """Nothing is learned from telling apart two barking dogs."""
    latents, text = pair
    latents = latents.requires_grad_()
    captions = [DOG, RAIN, DOG, RAIN]
    text = text[[0, 1, 0, 1]]
    (gradient,) = torch.autograd.grad(critic(latents, text, captions), latents)
    assert gradient.abs().amax(dim=(1, 2)).min() > 1e-6
    (gradient,) = torch.autograd.grad(critic(latents, text, [DOG] * 4), latents)
    assert not gradient.any()


def test_clips_without_a_caption_are_ignored(critic, pair):
    latents, text = pair
    latents = latents.requires_grad_()
    captions = [DOG, "", SEA, ""]
    loss = critic(latents, text, captions)
    (gradient,) = torch.autograd.grad(loss, latents)
    assert gradient[[0, 2]].any() and not gradient[[1, 3]].any()
    torch.testing.assert_close(loss, critic(latents[[0, 2]], text[[0, 2]], [DOG, SEA]))


@pytest.mark.parametrize("captions", [[DOG, "", "", ""], [""] * 4, [DOG] * 4])
def test_nothing_to_compare_is_zero_with_a_gradient_for_each_parameter(critic, pair, captions):
    """Processes that exchange gradients need them from each, on every step."""
    latents = pair[0].requires_grad_()
    loss = critic(latents, pair[1], captions)
    loss.backward()
    assert loss == 0
    for name, value in [("latents", latents), *critic.named_parameters()]:
        assert value.grad is not None and not value.grad.any(), name


def test_half_precision_latents_are_compared_in_float32(critic, pair):
    latents, text = pair[0].bfloat16(), pair[1]
    with torch.autocast("cpu", torch.bfloat16):
        loss = critic(latents, text)
    torch.testing.assert_close(loss, critic(latents.float(), text), rtol=0, atol=0)


def test_the_temperature_is_learned_within_its_bound(critic, pair):
    assert float(critic.log_scale.detach().exp()) == pytest.approx(1 / 0.07)
    critic(*pair).backward()
    assert critic.log_scale.grad != 0
    with torch.no_grad():
        critic.log_scale.fill_(50.0)
    assert torch.isfinite(critic(*pair)) and critic(*pair) < 400


def test_minimizing_it_tells_the_clips_apart(critic, pair):
    latents = pair[0].requires_grad_()
    optimizer = torch.optim.Adam([latents, *critic.parameters()], lr=0.01)
    for _ in range(100):
        loss = critic(latents, pair[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    similarity = critic.embed_latents(latents) @ critic.embed_text(pair[1]).T
    assert torch.equal(similarity.argmax(dim=1), torch.arange(4))


def test_what_cannot_be_compared_is_refused(critic, pair):
    latents, text = pair
    with pytest.raises(ValueError, match="`hidden_size` must be at least 1, not 0"):
        ContrastiveCritic(4, 6, hidden_size=0)
    with pytest.raises(ValueError, match=r"`latents` must be \(batch, 4, frames\)"):
        critic(latents[:, :3], text)
    with pytest.raises(ValueError, match=r"`text_embeddings` must be \(4, 6\), not \(3, 6\)"):
        critic(latents, text[:3])
    for captions in ([DOG], "aaaa"):
        with pytest.raises(ValueError, match="`captions` must be a list of 4 texts"):
            critic(latents, text, captions)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_tokenizer):
    root = tmp_path_factory.mktemp("text")
    for name, make in KINDS.items():
        torch.manual_seed(0)
        make(len(tiny_tokenizer)).save_pretrained(root / name)
        tiny_tokenizer.save_pretrained(root / name)
    return root


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_embedding_is_the_mean_over_the_tokens_of_a_caption(folders, tiny_tokenizer, kind, batch_size):
    """Captions of 3, 5 and 2 tokens, padded or not; the model's own output by hand."""
    encoder = CaptionEncoder.from_pretrained(folders / kind, batch_size=batch_size)
    embeddings = encoder([DOG, RAIN, SEA, "", DOG])
    assert embeddings.shape == (5, encoder.hidden_size) and embeddings.dtype == torch.float32
    assert not embeddings.requires_grad and not embeddings[3].any()
    assert torch.equal(embeddings[0], embeddings[4])
    model = {"t5": T5EncoderModel, "clap": ClapModel, "bert": BertModel, "qwen3": Qwen3Model}[kind]
    model = model.from_pretrained(folders / kind).eval()
    model = model.text_model if kind == "clap" else model
    for caption, embedding in zip([DOG, RAIN, SEA], embeddings, strict=False):
        tokens = torch.tensor([tiny_tokenizer(caption).input_ids])
        states = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        torch.testing.assert_close(embedding, states[0].mean(dim=0), rtol=1e-4, atol=1e-5)


def test_captions_are_encoded_once(folders, monkeypatch):
    encoder = CaptionEncoder.from_pretrained(folders / "bert", cache_size=2)
    encoded = []
    encode = encoder._encode

    def spy(captions):
        encoded.extend(captions)
        return encode(captions)

    monkeypatch.setattr(encoder, "_encode", spy)
    first = encoder([DOG, RAIN, DOG])
    assert encoded == [DOG, RAIN]
    torch.testing.assert_close(encoder([RAIN, DOG]), first[[1, 0]], rtol=0, atol=0)
    assert encoded == [DOG, RAIN]
    encoder([SEA])  # in the place of the one that was not asked for longest
    encoder([DOG])
    assert encoded == [DOG, RAIN, SEA]
    encoder([RAIN])
    assert encoded == [DOG, RAIN, SEA, RAIN]
    assert encoder([]).shape == (0, 16)


def test_an_embedding_does_not_depend_on_what_is_encoded_with_it(folders):
    """Else a resumed training would not be the uninterrupted one."""
    one, other = (CaptionEncoder.from_pretrained(folders / "qwen3") for _ in range(2))
    assert torch.equal(one([DOG, RAIN, SEA])[0], other([DOG])[0])


def test_an_encoder_is_frozen_and_no_part_of_what_holds_it(folders):
    encoder = CaptionEncoder.from_pretrained(folders / "t5", dtype=torch.bfloat16, device="cpu")
    holder = torch.nn.Module()
    holder.encoder = encoder
    assert not list(holder.parameters()) and not holder.state_dict()
    assert not encoder.model.training and not any(p.requires_grad for p in encoder.model.parameters())
    exact = CaptionEncoder.from_pretrained(folders / "t5")([DOG])
    assert encoder([DOG]).dtype == torch.float32 and 0 < (encoder([DOG]) - exact).abs().max() < 0.1


def test_long_captions_are_cut(folders):
    """BERT has 512 positions."""
    encoder = CaptionEncoder.from_pretrained(folders / "bert", batch_size=2)
    words = [DOG] * 170 + ["rain falling"]
    cut, whole = encoder([" ".join([*words, SEA, SEA]), " ".join(words)])
    torch.testing.assert_close(cut, whole)


def test_the_text_tower_of_clap_by_itself(folders, tmp_path, tiny_tokenizer):
    ClapModel.from_pretrained(folders / "clap").text_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    whole = CaptionEncoder.from_pretrained(folders / "clap")([DOG])
    torch.testing.assert_close(CaptionEncoder.from_pretrained(tmp_path)([DOG]), whole)


def test_weights_that_are_missing_are_not_made_up(folders, tmp_path, tiny_tokenizer):
    model = BertModel.from_pretrained(folders / "bert")
    weights = {name: value for name, value in model.state_dict().items() if "pooler" not in name}
    tiny_tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, state_dict=weights)
    assert CaptionEncoder.from_pretrained(tmp_path)([DOG]).any()  # the pooled output is not used
    del weights["encoder.layer.0.attention.self.key.weight"]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match="has no weights for encoder.layer.0.attention.self.key.weight"):
        CaptionEncoder.from_pretrained(tmp_path)


def test_other_models_are_refused(folders, tmp_path):
    config = HubertConfig(
        **SIZES, conv_dim=(8,), conv_kernel=(4,), conv_stride=(2,), num_feat_extract_layers=1
    )
    HubertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no text model: HubertModel takes input_values"):
        CaptionEncoder.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        CaptionEncoder.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="`cache_size` must be at least 1, not 0"):
        CaptionEncoder.from_pretrained(folders / "bert", cache_size=0)
    with pytest.raises(TypeError, match="`captions` must be a list of texts"):
        CaptionEncoder.from_pretrained(folders / "bert")(DOG)
