"""Where in the spectrum an autoencoder's reconstructions are wrong; measured once, kept with its run."""

import time
from typing import Any

import torch

from measurement import naming, progress, read_clips, reconstruct, write_json
from star_hf.evaluation import BandErrors, band_errors
from star_hf.evaluation.reconstruction_bands import BAND_EDGES
from study.held_out import HeldOut, kept_result, read_result
from study.runs import Run
from tasks.vae_loading import load_vae

BANDS_NAME = "band_errors.json"


def measured_bands(run: Run, held_out: HeldOut) -> dict[str, Any]:
    """`band_errors` of a finished run's clips, measured now unless its folder holds those of this step.

    By band, over the reconstructions of the held-out clips: `edges_hz`, the means `error_db` and `bias_db`,
    and the errors' `std_over_clips`.
    """
    file, state = run.folder / BANDS_NAME, run.state()
    mark = {"step": state["step"], **held_out.settings(), "band_edges": list(BAND_EDGES)}
    kept = kept_result(file, mark)
    if kept is not None:
        return kept
    started = time.monotonic()
    vae = load_vae(str(run.folder)).to("cuda" if torch.cuda.is_available() else "cpu")
    rate, clips = vae.config.sampling_rate, held_out.split()[1]
    found: list[BandErrors] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # an export may add noise of its own when it decodes
        title = f"{run.name}: errors by frequency band"
        for name, waveform in read_clips(progress(clips, title), held_out.audio_column, vae):
            with naming(name):
                found.append(band_errors(reconstruct(vae, waveform)[None], waveform[None], rate))
    errors, biases = (torch.stack([getattr(each, key) for each in found]) for key in ("error", "bias"))
    content = {
        "of": mark,
        "measuring_minutes": (time.monotonic() - started) / 60,
        "edges_hz": found[0].edges,
        "error_db": errors.mean(dim=0).tolist(),
        "bias_db": biases.mean(dim=0).tolist(),
        "std_over_clips": errors.std(dim=0, correction=0).tolist(),
    }
    write_json(file, content)
    return read_result(file)
