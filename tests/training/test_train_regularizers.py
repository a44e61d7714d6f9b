"""Every regularizer through the autoencoder's script: what trains, what is refused, what is remembered."""

import json

import pytest
import torch

KL = {"stft": 1.0, "kl": 1.0}


def losses(**weights):
    return ["--losses", json.dumps({name: weight for name, weight in weights.items()})]


METHODS = {
    "isotropic": ["--regularizer.name", "isotropic"],
    "star": ["--regularizer.name", "star", "--regularizer.growth", "step"],
    "target_kl": ["--regularizer.name", "target_kl", "--regularizer.target_kbps", "2"],
    "target_kl_star": ["--regularizer.name", "target_kl_star", "--regularizer.target_kbps", "2"],
    "sigma_vae": ["--regularizer.name", "sigma_vae", *losses(stft=1.0, mean_energy=0.01)],
    "soft_normalization": [
        *("--regularizer.name", "soft_normalization", *losses(stft=1.0, moments=1.0)),
        *("--posterior_noise", "{}", "--latent_noise.scale", "0.05"),
    ],
    "latent_noise": ["--latent_noise.scale", "0.05"],
    "regressors": losses(**KL, regressors=1.0),
    "flow_probe": [
        *losses(**KL, flow_probe=1.0),
        *("--flow_probe", "{hidden_size: 16, num_layers: 1, num_heads: 2, detach_steps: 2}"),
    ],
    "perceptual": [
        *losses(**KL, phase=1.0, stereo_correlation=1.0),
        *("--stft.k_weighting", "true", "--phase", "{fft_sizes: [256]}"),
    ],
    "adversarial_off_encoder": [
        *losses(**KL, adversarial=0.1, feature_matching=1.0),
        *("--adversarial.reaches_encoder", "false"),
        *("--adversarial.discriminator", "{fft_sizes: [64], filters: 4}"),
    ],
}
PRETRAINED = {
    "semantic": lambda folder: [*losses(**KL, semantic=1.0), "--semantic.teacher", folder],
    "semantic_by_weight": lambda folder: [
        *losses(**KL, semantic=0.1),
        *("--semantic.teacher", folder, "--semantic.gradient_fraction", "null"),
    ],
    "contrastive": lambda folder: [*losses(**KL, contrastive=0.1), "--contrastive.text_encoder", folder],
}
POSTERIORS = {
    "sigma_vae": ("sigma", "FixedSigmaPosterior"),
    "soft_normalization": ("soft_normalization", "DeterministicPosterior"),
}


def exported(folder):
    from star_hf.autoencoder import AutoencoderStar

    return AutoencoderStar.from_pretrained(folder / "export")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """One folder with a WavLM teacher of two layers, another with a BERT and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertModel,
        PreTrainedTokenizerFast,
        Wav2Vec2FeatureExtractor,
        WavLMConfig,
        WavLMModel,
    )

    torch.manual_seed(0)
    teacher, text = (tmp_path_factory.mktemp(name) for name in ("teacher", "text"))
    width = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [5, 8]}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    WavLMModel(WavLMConfig(**width, **convolutions, **positions, num_feat_extract_layers=2)).save_pretrained(
        teacher
    )
    Wav2Vec2FeatureExtractor().save_pretrained(teacher)
    words = {word: i for i, word in enumerate("[UNK] [PAD] a low high tone white noise".split())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    BertModel(BertConfig(vocab_size=len(words), **width)).save_pretrained(text)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        text
    )
    return {"semantic": str(teacher), "semantic_by_weight": str(teacher), "contrastive": str(text)}


@pytest.mark.parametrize("method", [*METHODS, *PRETRAINED])
def test_each_method_trains_and_its_export_remembers_it(autoencoder_options, pretrained, tmp_path, method):
    import train_autoencoder

    options = PRETRAINED[method](pretrained[method]) if method in PRETRAINED else METHODS[method]
    train_autoencoder.main(autoencoder_options(*options))
    run = tmp_path / "autoencoder"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = exported(run).config.regularizer["losses"]
    logged = {name.removeprefix("loss/") for line in lines for name in line if name.startswith("loss/")}
    assert logged - {"discriminator"} == set(weights)
    assert all(line["skipped_steps"] == 0 for line in lines if "skipped_steps" in line)

    model = exported(run)
    bottleneck, posterior = POSTERIORS.get(method, ("gaussian", "DiagonalGaussianPosterior"))
    assert model.config.bottleneck == bottleneck
    latents = model.encode(torch.randn(1, 2, 640)).latent_dist
    assert type(latents).__name__ == posterior
    assert latents.mean.shape == (1, 8, 20)


@pytest.mark.parametrize("method", ["sigma_vae", "soft_normalization", "flow_probe"])
def test_a_resumed_run_ends_with_the_same_weights(autoencoder_options, tmp_path, method):
    import shutil

    from safetensors.torch import load_file

    import train_autoencoder

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train_autoencoder.main(autoencoder_options(*METHODS[method], "--output_dir", str(whole)))
    shutil.copytree(whole, parted)
    shutil.rmtree(parted / "export")
    shutil.rmtree(parted / "checkpoints" / "step_00000004")
    train_autoencoder.main(autoencoder_options(*METHODS[method], "--output_dir", str(parted)))
    first, second = (
        load_file(run / "export" / "diffusion_pytorch_model.safetensors") for run in (whole, parted)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_phase_two_may_change_the_bottleneck(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    first = exported(tmp_path / "autoencoder")
    options = ["--output_dir", str(tmp_path / "second"), "--init_from", str(tmp_path / "autoencoder")]
    options += ["--model", "null", *METHODS["sigma_vae"], "--regularizer.sigma", "0.25"]
    train_autoencoder.main(autoencoder_options(*options, "--optimizer.learning_rate", "0"))
    second = exported(tmp_path / "second")
    assert (second.config.bottleneck, second.config.sigma) == ("sigma", 0.25)
    waveform = torch.randn(1, 2, 640)
    torch.testing.assert_close(
        second.encode(waveform).latent_dist.mean, first.encode(waveform).latent_dist.mean
    )
    record = second.config.regularizer
    assert (record["name"], record["after"]["name"]) == ("sigma_vae", "star")


def test_the_exported_decoder_adds_noise_only_if_asked_to(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--latent_noise.inference_scale", "0.1"))
    model = exported(tmp_path / "autoencoder")
    latents = torch.randn(1, 8, 20)
    draws = [model.decode(latents, generator=torch.manual_seed(seed)).sample for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def gradients(options, changes, seed=0):
    """Gradient of the encoder from each loss of one step, by name."""
    from engine.arguments import parse_arguments
    from tasks.autoencoder_arguments import AutoencoderArguments
    from tasks.autoencoder_task import AUTOENCODER, AutoencoderTask

    arguments = parse_arguments(AutoencoderArguments, options(*changes))
    arguments.check()
    torch.manual_seed(seed)
    log = type("Log", (), {"say": staticmethod(lambda text: None)})()
    task = AutoencoderTask(arguments, log)
    batch = next(iter(task.batches(0, 0, 1)))
    output = task.compute(task.modules, batch, step=2)
    encoder = [p for p in task.vae.encoder.parameters() if p.requires_grad]
    decoder = [p for p in task.vae.decoder.parameters() if p.requires_grad]
    found = {}
    for name, loss in output.losses.items():
        parts = [
            torch.autograd.grad(loss, part, retain_graph=True, allow_unused=True)
            for part in (encoder, decoder)
        ]
        found[name] = [sum(float(g.abs().sum()) for g in part if g is not None) for part in parts]
    assert task.modules[AUTOENCODER].training
    return found


def test_the_semantic_gradient_is_a_set_share_of_the_reconstructions(autoencoder_options, pretrained):
    """At the latents: with the fraction ½ it is half as long, whatever the loss's weight."""
    from torch import nn

    from engine.noise import SampleNoise
    from star_hf import AutoencoderStar, SemanticAlignment
    from tasks.noisy_autoencoder import NoisyAutoencoder

    torch.manual_seed(0)
    vae = AutoencoderStar(4, [4, 8], [1, 2], 4, 8, context_type="none")
    waveform, features = torch.randn(2, 2, 640), torch.randn(2, 20, 16)

    class Alignment(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = SemanticAlignment(8, 16)

        def forward(self, latents, noise, features):
            return self.loss(latents, features)

    model = NoisyAutoencoder(vae, {"semantic": Alignment()}, gradient_fraction=0.5)
    latents = []
    draw = type(vae.encode(waveform).latent_dist).draw

    def kept(posterior, *args):
        latents.append(draw(posterior, *args).requires_grad_())
        latents[-1].retain_grad()
        return latents[-1]

    def gradient(weights):
        vae.encoder.requires_grad_(False)
        noise = SampleNoise(torch.arange(2), "cpu")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(vae.encode(waveform).latent_dist), "draw", kept)
            output = model(waveform, noise, targets={"semantic": {"features": features}})
        total = weights[0] * (output["reconstruction"] - waveform).square().mean()
        (total + weights[1] * output["losses"]["semantic"]).backward()
        return latents[-1].grad

    reconstruction = gradient((1.0, 0.0))
    for weight in (0.01, 1.0):
        shares = (gradient((1.0, weight)) - reconstruction).norm() / reconstruction.norm()
        assert shares.item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("reaches", [True, False])
def test_adversarial_gradients_can_be_kept_off_the_encoder(autoencoder_options, reaches):
    changes = [*METHODS["adversarial_off_encoder"], "--adversarial.reaches_encoder", str(reaches)]
    found = gradients(autoencoder_options, changes)
    for name in ("adversarial", "feature_matching"):
        assert (found[name][0] > 0) is reaches
        assert found[name][1] > 0
    assert found["stft"][0] > 0


@pytest.mark.parametrize("detach_steps", [2, 3])
def test_the_flow_probe_reaches_the_encoder_after_its_steps(autoencoder_options, detach_steps):
    changes = [*METHODS["flow_probe"], "--flow_probe.detach_steps", str(detach_steps)]
    # the probe's head starts at zero: its gradient by the latents is that of the target alone
    assert (gradients(autoencoder_options, changes)["flow_probe"][0] > 0) is (detach_steps == 2)


def test_a_frozen_decoder_leaves_its_cnn_alone(autoencoder_options, tmp_path):
    from safetensors.torch import load_file

    import train_autoencoder

    model = ["--model.context_type", "transformer", "--model.context_hidden_size", "16"]
    model += ["--model.num_context_layers", "1"]
    train_autoencoder.main(autoencoder_options(*model))
    first, second = tmp_path / "autoencoder", tmp_path / "second"
    options = ["--output_dir", str(second), "--init_from", str(first), "--model", "null"]
    train_autoencoder.main(autoencoder_options(*options, "--freeze", "decoder"))
    before, after = (
        load_file(run / "export" / "diffusion_pytorch_model.safetensors") for run in (first, second)
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder.") for name in changed)
    assert {name for name in changed if name.startswith("decoder.")} == {
        name for name in changed if name.startswith("decoder.context.")
    }
    assert any(name.startswith("decoder.context.") for name in changed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--regularizer.name", "sigma_vae"],
            "'sigma_vae' cannot have a KL: its encoder gives the mean only",
        ),
        (["--regularizer.name", "soft_normalization"], "no posterior to take a KL of"),
        (losses(stft=1, moments=1), "losses.moments is the penalty of soft normalization"),
        (losses(stft=1, kl=1, mean_energy=1), "losses.mean_energy is a part of the KL"),
        (
            ["--regularizer.name", "soft_normalization", *losses(stft=1, moments=1)],
            "posterior_noise has nothing to bring in",
        ),
        (["--regularizer.name", "target_kl"], "needs regularizer.target_kbps"),
        (
            ["--regularizer.name", "target_kl", "--regularizer.target_kbps", "-1"],
            "`target_kbps` must be a positive number",
        ),
        (["--regularizer.growth", "cubic"], "`growth` must be one of"),
        (["--regularizer.sigma", "0"], "regularizer.sigma must be greater than 0"),
        (["--latent_noise.scale", "-1"], "latent_noise.scale must be finite and at least 0"),
        (losses(stft=1, semantic=1), "losses.semantic needs semantic.teacher"),
        (["--semantic.teacher", "wavlm"], "semantic.teacher 'wavlm' would do nothing"),
        (losses(stft=1, contrastive=1), "losses.contrastive needs contrastive.text_encoder"),
        (
            [*losses(stft=1, contrastive=1), "--contrastive.text_encoder", "t5", "--data.batch_size", "1"],
            "data.batch_size must be at least 2",
        ),
        (["--adversarial.reaches_encoder", "false"], "needs a weight of losses.adversarial"),
        (
            ["--freeze", "encoder", *losses(stft=1, flow_probe=1)],
            "leaves nothing for the loss 'flow_probe' to train",
        ),
        (["--model.bottleneck", "sigma"], "unknown key 'model.bottleneck'"),
        ([*losses(stft=1, semantic=1), "--semantic.teacher", "./nowhere"], "./nowhere"),
    ],
)
def test_contradictions_are_refused_with_the_reason(autoencoder_options, tmp_path, capsys, options, message):
    import train_autoencoder

    with pytest.raises(SystemExit) as stopped:
        train_autoencoder.main(autoencoder_options(*options))
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "autoencoder" / "checkpoints").exists()
