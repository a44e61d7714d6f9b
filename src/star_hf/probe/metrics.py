"""What the numbers of a run are called, what they mean, and whether less or more of them is better."""

from __future__ import annotations

METRICS: dict[str, dict[str, str]] = {
    "relative_flow_loss": {
        "title": "relative flow loss",
        "better": "less",
        "unit": "",
        "definition": "Validation flow loss of latents that are standardized channel by channel, over "
        "E_t[1 / (t² + (1 - t)²)], the loss of the best predictor that looks at each number by itself. At 1 "
        "nothing is learned beyond that; channels that hold nothing but noise keep it near 1.",
    },
    "reducible_flow_loss": {
        "title": "reducible flow loss left",
        "better": "less",
        "unit": "",
        "definition": "The same after the loss of one who knows the posterior's mean, and not its noise, is "
        "taken off both: 1 at the best predictor of each number by itself, 0 at that one. Channels without "
        "signal do not count. Latents without noise of their own have the relative flow loss.",
    },
    "unpredicted_rate": {
        "title": "unpredicted rate",
        "better": "less",
        "unit": "kbit/s",
        "definition": "∫ t / (1 - t) · (loss - loss of one who knows the posterior's mean) dt up to t = 0.9, "
        "over all channels and frames of a second: how much of the latents, told up to a signal-to-noise "
        "ratio of 19 dB, the generator could not foresee. Unlike a loss per number it does not depend on "
        "how many frames and channels the same content is spread over; latents that tell less of the sound "
        "have less of it.",
    },
    "flow_loss": {
        "title": "flow loss",
        "better": "less",
        "unit": "",
        "definition": "Mean squared error of the velocity over the frames of held-out clips and the channels "
        "that vary, standardized by the training clips, at fixed noise and stratified logit-normal times.",
    },
    "frechet": {
        "title": "Fréchet distance",
        "better": "less",
        "unit": "",
        "definition": "Fréchet distance between the embeddings of generated clips and of all real ones.",
    },
    "frechet_infinity": {
        "title": "Fréchet distance, extrapolated",
        "better": "less",
        "unit": "",
        "definition": "FAD∞: the Fréchet distance extrapolated to infinitely many generated clips.",
    },
    "kernel": {
        "title": "kernel distance",
        "better": "less",
        "unit": "",
        "definition": "Kernel audio distance (unbiased squared MMD with a Gaussian kernel, times 1000) "
        "between the embeddings of generated clips and of all real ones.",
    },
    "accuracy": {
        "title": "given the right label",
        "better": "more",
        "unit": "",
        "definition": "Share of generated clips to which a linear judge, fitted on the real training clips, "
        "gives the label of the clip whose caption they were made for.",
    },
    "text_similarity": {
        "title": "text-audio similarity",
        "better": "more",
        "unit": "",
        "definition": "Mean cosine between the embeddings of generated clips and of their captions.",
    },
    "silent_share": {
        "title": "silent",
        "better": "less",
        "unit": "",
        "definition": "Share of generated clips that are not finite or stay below -60 dB of full scale.",
    },
}
