"""A real model on real data: a perceptron learns to read digits."""

from __future__ import annotations

from typing import Any

from clew.experiments import asha, choice, loguniform, random

TRAINING = """
    import numpy
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.3, random_state=0)
    images, test_images, labels, test_labels = parts

    def model(trial):
        model = trial.restore() or MLPClassifier(
            hidden_layer_sizes=(trial.params.width,),
            learning_rate_init=trial.params.rate,
            alpha=trial.params.alpha,
            batch_size=64,
            random_state=trial.seed,
        )
        for step in trial.steps():
            model.partial_fit(images, labels, classes=numpy.arange(10))
            trial.report(step, error=1 - model.score(test_images, test_labels))
        return model
"""
SPACE = {
    "width": choice(8, 16, 32, 64),
    "rate": loguniform(1e-5, 1.0),
    "alpha": loguniform(1e-6, 1.0),
}


def test_halving_finds_a_better_model_than_random_search_in_as_many_steps(
    house: Any, inline: Any
) -> None:
    house.write(TRAINING)
    door = house.experiments(inline)
    halving, plain, steps = [], [], []
    for seed in range(3):
        definition = asha(metric="error", trials=12, max_steps=9, seed=seed)
        found = house.search(inline, definition, SPACE)
        taken = sum(trial.step for trial in door.get(found.experiment).trials)
        trials = -(-taken // 9)  # rounded up: random search is given a little more
        rival = house.search(
            inline, random(metric="error", trials=trials, max_steps=9, seed=seed), SPACE
        )
        halving.append(found.trial.value)
        plain.append(rival.trial.value)
        steps.append(taken)
    print(halving, plain, steps)
    assert sum(halving) < sum(plain)
    assert max(halving) < 0.1
