"""Teachers: small encoders of every kind, loaded as real ones are; their frames lie where the sound is."""

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    HubertConfig,
    HubertModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from star_hf.losses.semantic_teacher import SemanticTeacher

RATE = 16000
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
CONVOLUTIONAL = {
    **TINY,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 10, 10),
    "conv_stride": (5, 8, 8),
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
}
# 64 mel bands of 64 columns: four stretches of time below each other, as in the real one
CLAP_AUDIO = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_size": 4,
    "patch_stride": [4, 4],
    "window_size": 4,
    "patch_embeds_hidden_size": 8,
    "hidden_size": 16,
    "depths": [1, 1],
    "num_attention_heads": [2, 2],
    "enable_fusion": True,
}


def clap():
    text = {**TINY, "vocab_size": 10, "projection_hidden_act": "relu"}
    model = ClapModel(ClapConfig(text_config=text, audio_config=CLAP_AUDIO, projection_dim=8))
    return model, ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="fusion")


def ast():
    sizes = {"max_length": 100, "num_mel_bins": 32}
    config = ASTConfig(**TINY, **sizes, patch_size=8, time_stride=4, frequency_stride=4)
    return ASTModel(config), ASTFeatureExtractor(**sizes)


def whisper():
    config = WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=16,
        max_source_positions=50,
        vocab_size=10,
        pad_token_id=0,
        decoder_start_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=16, chunk_length=1)


KINDS = {
    "wav2vec2": lambda: (Wav2Vec2Model(Wav2Vec2Config(**CONVOLUTIONAL)), Wav2Vec2FeatureExtractor()),
    "hubert": lambda: (HubertModel(HubertConfig(**CONVOLUTIONAL)), Wav2Vec2FeatureExtractor()),
    "wavlm": lambda: (WavLMModel(WavLMConfig(**CONVOLUTIONAL)), Wav2Vec2FeatureExtractor(do_normalize=False)),
    "wav2vec2-bert": lambda: (
        Wav2Vec2BertModel(Wav2Vec2BertConfig(**TINY, feature_projection_input_dim=160)),
        SeamlessM4TFeatureExtractor(),
    ),
    "ast": ast,
    "clap": clap,
    "whisper": whisper,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    for name, make in KINDS.items():
        torch.manual_seed(0)
        model, extractor = make()
        # with the usual 0.02 little of the sound would reach the outputs of layers this narrow
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.2)
            if weight.ndim > 2:  # kernels that favour no side
                weight.data = weight.data.mean(dim=-1, keepdim=True).expand_as(weight).contiguous()
        model.save_pretrained(root / name)
        extractor.save_pretrained(root / name)
    return root


def teacher_of(folders, kind, **options):
    return SemanticTeacher.from_pretrained(folders / kind, **options)


def inputs_of(teacher, clips):
    return teacher.feature_extractor(
        list(clips.numpy()), sampling_rate=teacher.sampling_rate, return_tensors="pt"
    )


def interpolated(own, offset, stride, samples, frames):
    """The model's own frames at the centres of `frames` even parts, in float64."""
    centres = offset + stride * np.arange(own.shape[1])
    wanted = (np.arange(frames) + 0.5) * samples / frames
    columns = own.double().numpy()
    return torch.tensor(
        np.stack([np.stack([np.interp(wanted, centres, c) for c in clip.T], -1) for clip in columns])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_as_its_clips_one_by_one(folders, kind):
    teacher = teacher_of(folders, kind)
    clips = torch.randn(3, 2, 22050) * torch.tensor([0.1, 0.5, 0.02])[:, None, None]
    features = teacher(clips, 44100)
    assert features.shape == (3, features.shape[1], teacher.hidden_size)
    assert features.dtype == torch.float32 and not features.requires_grad
    for clip, expected in zip(clips, features, strict=True):
        torch.testing.assert_close(teacher(clip[None], 44100)[0], expected, rtol=1e-4, atol=1e-5)
    assert (features[0] - features[1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["wavlm", "wav2vec2-bert", "ast", "clap", "whisper"])
@pytest.mark.parametrize("seconds", [0.8, 2.3])
def test_frames_lie_where_the_sound_is(folders, kind, seconds):
    """A burst changes the frames at its time; longer clips than the model's window come in several parts."""
    teacher = teacher_of(folders, kind, layer=0)
    samples, frames = round(seconds * RATE), round(200 * seconds)  # of 5 ms
    quiet = 0.01 * torch.randn(1, 1, samples)
    loud = quiet.repeat(20, 1, 1)
    starts = torch.linspace(0.06, 0.93, 20).mul(samples).long().tolist()
    for clip, start in zip(loud[:, 0], starts, strict=True):
        clip[start - 80 : start + 80] += 0.5 * torch.randn(160)
    change = (teacher(loud, RATE, frames) - teacher(quiet, RATE, frames)).norm(dim=-1)
    # a little of it is everywhere: levels are relative to the whole clip's
    change = (change - change.amax(dim=1, keepdim=True) / 3).clamp(min=0)
    times = (torch.arange(frames) + 0.5) * seconds / frames
    found = (change * times).sum(dim=1) / change.sum(dim=1)
    error = found - torch.tensor(starts) / RATE
    assert error.abs().max() < 0.04 and error.mean().abs() < 0.004


def test_frames_of_a_waveform_encoder_by_hand(folders):
    """WavLM: kernels 10, 10, 10 at strides 5, 8, 8 see 415 samples each 320."""
    teacher = teacher_of(folders, "wavlm")
    clips = torch.randn(2, 8000)
    own = WavLMModel.from_pretrained(folders / "wavlm").eval()(clips).last_hidden_state.detach()
    assert own.shape[1] == (8000 - 415) // 320 + 1
    expected = interpolated(own, 207.5, 320, 8000, 25)
    torch.testing.assert_close(teacher(clips[:, None], RATE).double(), expected, rtol=1e-4, atol=1e-5)
    expected = interpolated(own, 207.5, 320, 8000, 11)
    features = teacher(clips[:, None], RATE, frames=11)
    torch.testing.assert_close(features.double(), expected, rtol=1e-4, atol=1e-5)


def test_patches_of_ast_are_averaged_over_frequency(folders):
    """7 × 24 patches: each 4 columns of 160 samples one that sees 8 of them, windows of 400 samples."""
    teacher = teacher_of(folders, "ast")
    clips = torch.randn(2, 9600)
    model = ASTModel.from_pretrained(folders / "ast").eval()
    own = model(**inputs_of(teacher, clips)).last_hidden_state.detach()
    assert own.shape == (2, 2 + 7 * 24, 16)
    own = torch.stack([own[:, 2 + time :: 24].mean(dim=1) for time in range(24)], dim=1)
    # what comes after the clip's end is not interpolated with
    real = [time for time in range(24) if 200 + 160 * (4 * time + 3.5) < 9600]
    expected = interpolated(own[:, real], 760, 640, 9600, 15)
    torch.testing.assert_close(teacher(clips[:, None], RATE).double(), expected, rtol=1e-4, atol=1e-5)


def test_patches_of_clap_are_averaged_over_frequency(folders):
    teacher = teacher_of(folders, "clap")
    clips = torch.randn(2, 48000)
    model = ClapModel.from_pretrained(folders / "clap").eval().audio_model
    inputs = inputs_of(teacher, clips)
    inputs["is_longer"] = torch.zeros(2, 1, dtype=torch.bool)
    output = model(**inputs, output_hidden_states=True)
    # 256 columns in 4 chunks of 16 patches, merged once by two
    assert output.last_hidden_state.shape == (2, 16, 2, 32)
    expected = output.last_hidden_state.mean(dim=2).transpose(1, 2)
    torch.testing.assert_close(teacher(clips[:, None], 48000), expected, rtol=1e-4, atol=1e-5)
    # a hidden layer is an image with the chunks below each other: normalized, the last one is the output
    hidden = model.audio_encoder.norm(output.hidden_states[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(teacher._without_patches(hidden, from_output=False), expected)


def test_hidden_layers(folders):
    clips = torch.randn(1, 1, 8000)
    first, last = (teacher_of(folders, "wavlm", layer=layer)(clips, RATE) for layer in (1, 2))
    torch.testing.assert_close(last, teacher_of(folders, "wavlm")(clips, RATE))
    assert (first - last).abs().max() > 1e-2
    for layer, (frames, hidden_size) in {0: (64, 8), 1: (32, 16), 2: (32, 16), -1: (32, 16)}.items():
        teacher = teacher_of(folders, "clap", layer=layer)
        assert teacher.hidden_size == hidden_size
        assert teacher(torch.randn(1, 1, 48000), 48000).shape == (1, frames, hidden_size)
    for layer in (-2, 3):
        with pytest.raises(ValueError, match="`layer` must be from 0 .* to 2, or -1"):
            teacher_of(folders, "wavlm", layer=layer)


def test_the_audio_tower_of_clap_by_itself(folders, tmp_path):
    ClapModel.from_pretrained(folders / "clap").audio_model.save_pretrained(tmp_path)
    ClapFeatureExtractor.from_pretrained(folders / "clap").save_pretrained(tmp_path)
    clips = torch.randn(1, 2, 30000)
    alone = SemanticTeacher.from_pretrained(tmp_path)(clips, 48000)
    torch.testing.assert_close(alone, teacher_of(folders, "clap")(clips, 48000))


def test_a_teacher_is_frozen_and_no_part_of_what_holds_it(folders):
    class Holder(torch.nn.Module):
        def __init__(self, teacher):
            super().__init__()
            self.teacher = teacher

    teacher = teacher_of(folders, "hubert", dtype=torch.bfloat16, device="cpu")
    holder = Holder(teacher).train()
    assert not list(holder.parameters()) and not holder.state_dict()
    assert not teacher.encoder.training and not any(p.requires_grad for p in teacher.encoder.parameters())
    clips = torch.randn(1, 1, 8000, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        features = teacher(clips, RATE)
    assert features.dtype == torch.float32 and not features.requires_grad
    exact = teacher_of(folders, "hubert")
    assert 0 < (features - exact(clips, RATE)).abs().max() < 0.3
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = exact(clips, 44100)
    assert torch.equal(under_autocast, exact(clips, 44100))


def test_what_cannot_be_is_refused(folders, tmp_path):
    teacher = teacher_of(folders, "wavlm")
    with pytest.raises(ValueError, match=r"`waveform` must be \(batch, channels, samples\), not \(1, 8000\)"):
        teacher(torch.zeros(1, 8000), RATE)
    with pytest.raises(ValueError, match="at least 415 samples at the teacher's 16000 Hz, not 400"):
        teacher(torch.zeros(1, 1, 400), RATE)
    with pytest.raises(ValueError, match="`from_rate` must be a positive number of Hz"):
        teacher(torch.zeros(1, 1, 8000), 0)
    with pytest.raises(ValueError, match="`frames` must be at least 1"):
        teacher(torch.zeros(1, 1, 8000), RATE, frames=0)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert', no audio encoder known"):
        SemanticTeacher.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        SemanticTeacher.from_pretrained(tmp_path / "missing")


def test_pickled_weights_are_not_read(folders, tmp_path):
    model = HubertModel.from_pretrained(folders / "hubert")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(OSError, match="safetensors"):
        SemanticTeacher.from_pretrained(tmp_path)
