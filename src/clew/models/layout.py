"""Where things lie in the tree of a model version.

Knows names of files only.
"""

SIGNATURE = "/clew/signature.json"
RECIPE = "/clew/recipe.json"
PROFILE = "/clew/profile.json"
PREDICTIONS = "/clew/predictions.json"
TRAINING = "/clew/training.json"
EXAMPLE = "/clew/example.json"
BACKGROUND = "/clew/background.parquet"
MODEL = "/model.pkl"
ENVIRONMENT = "/clew/environment.json"
"""What the original needs, where that is not the environment of the server."""

RUNTIME = "/clew/runtime.json"
CONFIGURATION = "/clew/configuration.json"
IMPORTANCES = "/clew/importances.json"
METRICS = "/clew/metrics.json"
CHARTS = "/clew/charts.json"
LEARNED = "/clew/learned.json"
SUMMARY = "/clew/summary.json"
CARD = "/clew/card.json"
NOTES = "/clew/notes.json"

ONNX = "/clew/formats/onnx/model.onnx"
ONNX_RECIPE = "/clew/formats/onnx/recipe.json"
PARITY = "/clew/formats/onnx/parity.json"
