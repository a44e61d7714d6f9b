"""Documents of a paired probe, made by hand from the values that a test is about."""

from __future__ import annotations

METRICS = {
    "relative_flow_loss": ("relative flow loss", "less"),
    "flow_loss": ("flow loss", "less"),
    "frechet": ("Fréchet distance", "less"),
    "accuracy": ("right labels", "more"),
    "text_similarity": ("text-audio similarity", "more"),
}
RECONSTRUCTED = ("frechet", "accuracy", "text_similarity")


def make_document(values, reconstruction=None, generator="star_gen", audio=()):
    """`values[autoencoder][budget]` is one value per seed, or a dict of such lists by metric.

    A plain list is the Fréchet distance; the other metrics follow from it, the accuracy against it.
    `reconstruction[autoencoder]` is a Fréchet distance, 1, 2, … by default.
    """
    reports = {}
    for place, (name, by_budget) in enumerate(values.items(), start=1):
        runs = []
        for budget, given in by_budget.items():
            metrics = given if isinstance(given, dict) else follow(given)
            for seed in range(len(next(iter(metrics.values())))):
                run = {
                    "seed": seed,
                    "budget": budget,
                    **{key: column[seed] for key, column in metrics.items()},
                }
                loss = run.get("relative_flow_loss")
                quarters = None if loss is None else [loss * factor for factor in (0.7, 0.9, 1.1, 1.3)]
                run["relative_flow_loss_by_time"] = quarters
                run |= {"training_seconds": budget / 10, "sampling_seconds": 3.0, "audio": list(audio)}
                runs.append(run)
        distance = (reconstruction or {}).get(name, float(place))
        reconstructed = {"frechet": distance, "accuracy": None if distance is None else 1 / (1 + distance)}
        reports[name] = {
            "class_name": "AutoencoderStar",
            "latent_channels": 8 * place,
            "frame_rate": 21.53,
            "sampling_rate": 44100,
            "parameters": 1_000_000 * place,
            "posterior": "gaussian",
            "generators": {
                generator: {
                    "generator_parameters": 2_000_000,
                    "reconstruction": {**reconstructed, "text_similarity": None},
                    "runs": runs,
                }
            },
        }
    first = next(iter(values.values()))
    return {
        "settings": {
            "budgets": list(first),
            "seeds": sorted({run["seed"] for run in runs}),
            "generators": [generator],
            "dataset": "sounds",
            "training_clips": 90,
            "held_out_clips": 10,
            "embedder": "LogMelEmbedder",
        },
        "autoencoders": reports,
        "metrics": {
            key: {"title": title, "better": better, "unit": "", "definition": f"What {title} is."}
            for key, (title, better) in METRICS.items()
        },
        "versions": {"python": "3", "torch": "2"},
    }


def follow(distances):
    """Metrics that order as the Fréchet distances do."""
    return {
        "relative_flow_loss": [distance / 10 for distance in distances],
        "flow_loss": [distance / 5 for distance in distances],
        "frechet": list(distances),
        "accuracy": [1 / (1 + distance) for distance in distances],
        "text_similarity": [None] * len(distances),
    }
