"""What every search trains: scikit-learn's digits, a perceptron, one epoch a step."""

import numpy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

images, labels = load_digits(return_X_y=True)
images, held_out, labels, held_out_labels = train_test_split(
    images / 16, labels, test_size=0.3, random_state=0
)


def made(params, seed):
    return MLPClassifier(
        hidden_layer_sizes=(params["width"],),
        learning_rate_init=params["rate"],
        alpha=params["alpha"],
        batch_size=32,
        random_state=seed,
    )


def epoch(model):
    """Train for one, and the validation error after it."""
    model.partial_fit(images, labels, classes=numpy.arange(10))
    return 1 - model.score(held_out, held_out_labels)
