"""A trained module's optimizer groups and the average of its weights."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from engine.optimization import AveragedWeights, EMAArguments, OptimizerArguments, Player, is_matrix


@pytest.fixture
def player():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    module[0].bias.requires_grad_(False)
    return Player(module, OptimizerArguments(weight_decay=0.1, warmup_steps=0), Accelerator(cpu=True))


def test_only_matrices_decay_and_only_trained_weights_are_optimized(player):
    decayed, kept = player.optimizer.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3), (2, 4)]
    assert [tuple(p.shape) for p in kept["params"]] == [(2,)]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert player.num_parameters == 12 + 8 + 2
    assert is_matrix(torch.zeros(4, 3, 7)) and not is_matrix(torch.zeros(1, 4, 1))


def test_the_average_follows_its_recursion(player):
    # the first step copies; then decay 1 - (1 + n)^-power, n counted from the second, up to the largest
    average = AveragedWeights(player, player.module, False, EMAArguments(decay=0.6, power=1.0))
    expected = player.module[1].weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            for parameter in player.trained_parameters():
                parameter.add_(step + 1)
        average.step()
        decay = min(0.6, 1 - 1 / (1 + step)) if step else 0.0
        expected = decay * expected + (1 - decay) * player.module[1].weight.detach()
    trained = player.module[1].weight.detach().clone()
    player.module.train()
    with average.applied():
        torch.testing.assert_close(player.module[1].weight.detach(), expected)
        assert not player.module.training
    torch.testing.assert_close(player.module[1].weight.detach(), trained, rtol=0, atol=0)
    assert player.module.training


def test_an_average_is_saved_and_loaded(player, tmp_path):
    average = AveragedWeights(player, player.module, False, EMAArguments())
    average.model.shadow_params[0].add_(1.0)
    average.model.optimization_step = 7
    average.save(tmp_path)
    other = AveragedWeights(player, player.module, False, EMAArguments())
    other.load(tmp_path, 7)
    for first, second in zip(average.model.shadow_params, other.model.shadow_params, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert other.model.optimization_step == 7


def test_a_separate_module_takes_the_average_and_keeps_it_off_the_trained_one(player):
    evaluated = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    evaluated[0].bias.requires_grad_(False)
    average = AveragedWeights(player, evaluated, True, EMAArguments())
    before = player.module[1].weight.detach().clone()
    average.model.shadow_params[-2].fill_(2.0)
    with average.applied():
        assert bool((evaluated[1].weight == 2.0).all())
    torch.testing.assert_close(player.module[1].weight.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "linear"}, r"optimizer\.schedule must be one of"),
        ({"betas": [0.9]}, r"optimizer\.betas must be two numbers"),
        ({"learning_rate": float("nan")}, r"optimizer\.learning_rate must be finite"),
        ({"warmup_decay": 1.0}, r"optimizer\.warmup_decay must be from 0 to below 1"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        OptimizerArguments(**change).check("optimizer")
