"""Embedders over tiny models: windows, batches, rates, heads, text; the stable-audio-metrics windows."""

from __future__ import annotations

import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
)

from star_hf.audio import resample
from star_hf.evaluation.distribution_stable_audio import (
    OpenL3Embedder,
    PaSSTTagger,
    normalize_peak,
    passt_windows,
)
from star_hf.evaluation.embedders import AudioEmbedder, window_starts

RATE = 16000


def _noise(seconds, rate=RATE, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * rate), generator=generator)


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8, 8],
        conv_stride=[20, 16],
        conv_kernel=[40, 16],
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_buckets=8,
    )
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ast(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ast")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=64,
        num_mel_bins=32,
        num_labels=5,
    )
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    audio = ClapAudioConfig(
        window_size=2,
        num_mel_bins=16,
        spec_size=64,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=8,
        hidden_size=32,
        depths=[1, 1, 1],
        num_attention_heads=[2, 2, 2],
        num_classes=4,
        enable_fusion=False,
        projection_dim=12,
    )
    text = ClapTextConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        pad_token_id=tiny_tokenizer.pad_token_id,
        projection_dim=12,
    )
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=RATE,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_max=8000,
        truncation="rand_trunc",
    ).save_pretrained(folder)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    return folder


def test_windows_cover_the_clip_and_the_last_one_is_full():
    assert window_starts(10, 4, 2) == [0, 2, 4, 6]
    assert window_starts(11, 4, 2) == [0, 2, 4, 6, 7]
    assert window_starts(4, 4, 4) == [0]
    assert window_starts(3, 4, 4) == [0]


def test_embedding_is_the_model_s_own_mean_over_time(wavlm):
    embedder = AudioEmbedder.from_pretrained(wavlm, window_s=0.5)
    clip = _noise(1.2)
    embeddings = embedder.embed(clip, RATE)
    assert embeddings.shape == (3, 16)
    model, extractor = (
        WavLMModel.from_pretrained(wavlm).eval(),
        Wav2Vec2FeatureExtractor.from_pretrained(wavlm),
    )
    for row, start in zip(embeddings, (0, 0.5, 0.7), strict=True):
        part = clip[0, int(start * RATE) : int((start + 0.5) * RATE)].numpy()
        with torch.inference_mode():
            states = model(**extractor(part, sampling_rate=RATE, return_tensors="pt")).last_hidden_state
        assert row == pytest.approx(states[0].mean(dim=0).numpy(), abs=1e-5)


def test_embeddings_do_not_depend_on_the_batch(wavlm):
    """Clips of different lengths together, alone, and one window at a time."""
    clips = [(_noise(seconds, seed=index), RATE) for index, seconds in enumerate((0.3, 1.1, 0.5, 0.3))]
    together = AudioEmbedder.from_pretrained(wavlm, window_s=0.5, hop_s=0.25).embed_clips(clips)
    single = AudioEmbedder.from_pretrained(wavlm, window_s=0.5, hop_s=0.25, batch_size=1)
    assert [len(rows) for rows in together] == [1, 4, 1, 1]
    for rows, clip in zip(together, clips, strict=True):
        assert rows == pytest.approx(single.embed(*clip), abs=1e-5)


def test_memory_is_bounded_by_the_batch(wavlm, monkeypatch):
    embedder = AudioEmbedder.from_pretrained(wavlm, window_s=0.25, batch_size=3)
    sizes = []
    forward = embedder.model.forward
    monkeypatch.setattr(
        embedder.model,
        "forward",
        lambda **inputs: sizes.append(len(inputs["input_values"])) or forward(**inputs),
    )
    assert len(embedder.embed(_noise(2), RATE)) == 8
    assert sizes == [3, 3, 2]


def test_other_rates_and_stereo_are_brought_to_the_model_s(wavlm):
    embedder = AudioEmbedder.from_pretrained(wavlm, window_s=0.5)
    stereo = _noise(0.5, rate=44100, channels=2)
    expected = embedder.embed(resample(stereo.mean(dim=0, keepdim=True), 44100, RATE), RATE)
    assert embedder.embed(stereo, 44100) == pytest.approx(expected, abs=1e-6)
    assert np.abs(embedder.embed(stereo[:1], 44100) - expected).max() > 1e-3


def test_a_classifier_gives_logits_and_its_body_s_embedding(ast):
    embedder = AudioEmbedder.from_pretrained(ast)
    assert embedder.classifies and embedder.window_s == 0.64
    clip = _noise(1.0)
    assert embedder.embed(clip, RATE).shape == (2, 16)
    model = ASTForAudioClassification.from_pretrained(ast).eval()
    features = ASTFeatureExtractor.from_pretrained(ast)(
        clip[0, : int(0.64 * RATE)].numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model(**features).logits[0].numpy()
    logits = embedder.logits(clip, RATE)
    assert logits.shape == (2, 5) and logits[0] == pytest.approx(expected, abs=1e-5)


def test_clap_has_one_space_for_audio_and_text(clap):
    embedder = AudioEmbedder.from_pretrained(clap)
    assert embedder.window_s == 1
    audio = embedder.embed(_noise(1.5), RATE)
    text = embedder.embed_text(["a dog barking", "rain falling on a roof", "sea waves"])
    assert audio.shape == (2, 12) and text.shape == (3, 12)
    assert np.linalg.norm(audio, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(text, axis=1) == pytest.approx(1, abs=1e-5)
    embedder.batch_size = 1
    assert embedder.embed_text(["a dog barking", "rain falling on a roof", "sea waves"]) == pytest.approx(
        text, abs=1e-5
    )
    model = ClapModel.from_pretrained(clap).eval()
    tokens = embedder.tokenizer(["sea waves"], return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(**tokens)
    expected = getattr(expected, "pooler_output", expected)
    assert text[2:] == pytest.approx(expected.numpy(), abs=1e-5)


def test_fusion_of_long_windows_is_reproducible_and_leaves_numpy_s_state(clap):
    """The extractor of CLAP draws crops from the global state."""
    extractor = ClapFeatureExtractor.from_pretrained(clap, feature_size=64, truncation="fusion")
    embedder = AudioEmbedder(ClapModel.from_pretrained(clap), extractor, window_s=4)
    clip = _noise(4)
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    first, second = (next(embedder._features(clip, RATE)) for _ in range(2))
    assert first["input_features"].shape[1] == 4 and first["is_longer"].all()
    assert torch.equal(first["input_features"], second["input_features"])
    assert (np.random.get_state()[1] == state).all()


def test_wrong_settings_are_refused(ast, wavlm):
    for options, message in [
        ({"window_s": 0.01}, "`window_s` must be at least"),
        ({"window_s": 2}, "`window_s` must be at most 0.64 s"),
        ({"hop_s": 0}, "`hop_s`"),
        ({"window_s": 0.5, "hop_s": 0.6}, "`hop_s` must be above 0 and at most `window_s` 0.5"),
        ({"batch_size": 0}, "`batch_size`"),
    ]:
        with pytest.raises(ValueError, match=message):
            AudioEmbedder.from_pretrained(ast, **options)
    embedder = AudioEmbedder.from_pretrained(wavlm)
    assert embedder.window_s == embedder.hop_s == 10
    with pytest.raises(ValueError, match="WavLMModel has no classification head"):
        embedder.logits(_noise(1), RATE)
    with pytest.raises(ValueError, match="WavLMModel embeds no text"):
        embedder.embed_text(["sea waves"])
    with pytest.raises(ValueError, match=r"`waveform` must be \(channels, samples > 0\)"):
        embedder.embed(_noise(1)[0], RATE)
    with pytest.raises(ValueError, match="at least 0.05 s"):
        embedder.embed(_noise(0.04), RATE)
    with pytest.raises(ValueError, match="`waveform` holds NaN"):
        embedder.embed(_noise(1) / 0, RATE)


class _StandInOpenL3:
    """One embedding per window of 1 s: its first sample and its peak."""

    def __init__(self):
        self.models = SimpleNamespace(load_audio_embedding_model=self._load)

    def _load(self, **settings):
        self.settings = settings
        return "model"

    def get_audio_embedding(self, audio, sr, model, hop_size, verbose):
        assert model == "model" and not verbose
        embeddings = []
        for channel, rate in zip(audio, sr, strict=True):
            starts = range(0, max(1, len(channel) - rate + 1), int(hop_size * rate))
            windows = [channel[start : start + rate] for start in starts]
            embeddings.append(np.array([[window[0], np.abs(window).max()] for window in windows]))
        return embeddings, None


def test_openl3_windows_and_channels(monkeypatch):
    package = _StandInOpenL3()
    monkeypatch.setitem(sys.modules, "openl3", package)
    embedder = OpenL3Embedder("env")
    assert package.settings == {"input_repr": "mel256", "content_type": "env", "embedding_size": 512}
    clip = torch.stack([torch.linspace(0, 0.5, 2 * 44100), torch.linspace(0, -0.25, 2 * 44100)])
    embeddings = embedder.embed(clip, 44100)
    # 1 s every 0.5 s of 2 s; the left channel peaks at -1 dBFS, the right one 6 dB lower.
    left = 10 ** (-1 / 20) * np.array([[0, 1 / 2], [1 / 4, 3 / 4], [1 / 2, 1]])
    expected = np.concatenate([left, left / [[-2, 2]]], axis=1)
    assert embeddings == pytest.approx(expected, abs=1e-4)
    mono = embedder.embed(clip[:1], 44100)
    assert mono == pytest.approx(np.concatenate([left, left], axis=1), abs=1e-4)
    (same,) = embedder.embed_clips([(clip, 44100)])
    assert (same == embeddings).all()
    # The windows are cut at 44.1 kHz, whatever the clip's own rate.
    assert len(embedder.embed(clip[:, ::2], 22050)) == 3


@pytest.mark.parametrize(
    ("seconds", "windows"), [(1.0, [1.0]), (1.6, [10]), (10, [10]), (12, [10, 10]), (20, [10, 10, 10])]
)
def test_passt_windows(seconds, windows):
    """10 s every 5 s while more than 5 s are left; padded, unless there is next to nothing to pad."""
    clip = torch.arange(int(seconds * 32000)) + 1.0
    parts = passt_windows(clip)
    assert [len(part) / 32000 for part in parts] == windows
    for index, part in enumerate(parts):
        kept = clip[index * 160000 : index * 160000 + 320000]
        assert torch.equal(part[: len(kept)], kept) and not part[len(kept) :].any()


def test_passt_logits_are_the_windows_mean_of_a_normalized_clip(monkeypatch):
    class StandIn(torch.nn.Module):
        def forward(self, window):
            return torch.stack([window.abs().amax(dim=1), window[:, 0]], dim=1)

    package = SimpleNamespace(get_basic_model=lambda mode: StandIn() if mode == "logits" else None)
    monkeypatch.setitem(sys.modules, "hear21passt", SimpleNamespace(base=package))
    monkeypatch.setitem(sys.modules, "hear21passt.base", package)
    ramp = torch.linspace(0, 0.2, 15 * 32000)
    logits = PaSSTTagger().logits(torch.stack([ramp, ramp]), 32000)
    peak = 10 ** (-1 / 20)
    assert logits == pytest.approx(peak * np.array([(2 / 3 + 1) / 2, (0 + 1 / 3) / 2]), abs=1e-4)


def test_silence_has_no_peak_to_normalize():
    assert not normalize_peak(torch.zeros(1, 10), 32000).any()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openl3", None)
    monkeypatch.setitem(sys.modules, "hear21passt", None)
    with pytest.raises(ImportError, match="FD_openl3 needs openl3: `pip install openl3`"):
        OpenL3Embedder("music")
    with pytest.raises(ImportError, match="KL_PaSST needs hear21passt: `pip install hear21passt`"):
        PaSSTTagger()
    with pytest.raises(ValueError, match="`content_type`"):
        OpenL3Embedder("speech")
