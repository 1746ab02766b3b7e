"""Kinds of estimators on real data: each converts, or serves as it is with a reason."""

from __future__ import annotations

import pickle
import warnings

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    kernel_approximation,
    linear_model,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from clew.base.records.parity import Parity
from clew.models import conversion
from clew.models.layout import ONNX, PARITY
from clew.models.probing import probe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def scaled(*steps):
    return pipeline.make_pipeline(preprocessing.StandardScaler(), *steps)


def logistic():
    return linear_model.LogisticRegression(max_iter=1000)


CONVERTED = {
    "cancer": [
        scaled(logistic()), scaled(linear_model.SGDClassifier(random_state=0)),
        ensemble.HistGradientBoostingClassifier(max_iter=20), scaled(svm.LinearSVC()),
        ensemble.StackingClassifier([("a", scaled(logistic())),
                                     ("b", ensemble.RandomForestClassifier(9, random_state=0))]),
        ensemble.VotingClassifier([("a", scaled(logistic())),
                                   ("b", ensemble.RandomForestClassifier(9, random_state=0))],
                                  voting="soft"),
        calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(9, random_state=0)),
        model_selection.GridSearchCV(scaled(logistic()), {"logisticregression__C": [0.1, 1]}),
        scaled(decomposition.PCA(5), logistic()),
        scaled(feature_selection.SelectKBest(k=5), logistic()),
        scaled(pipeline.FeatureUnion([("a", decomposition.PCA(2)),
                                      ("b", preprocessing.RobustScaler())]), logistic()),
    ],
    "wine": [
        scaled(logistic()), naive_bayes.GaussianNB(), tree.DecisionTreeClassifier(random_state=0),
        ensemble.ExtraTreesClassifier(20, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=10),
        ensemble.BaggingClassifier(n_estimators=5, random_state=0),
        discriminant_analysis.LinearDiscriminantAnalysis(), linear_model.RidgeClassifier(),
        scaled(neural_network.MLPClassifier(max_iter=50, random_state=0)),
        multiclass.OneVsRestClassifier(logistic()),
        calibration.CalibratedClassifierCV(naive_bayes.GaussianNB()),
    ],
    "diabetes": [
        linear_model.Ridge(), linear_model.Lasso(), linear_model.HuberRegressor(max_iter=500),
        linear_model.PoissonRegressor(max_iter=500), linear_model.BayesianRidge(),
        ensemble.RandomForestRegressor(20, random_state=0),
        ensemble.HistGradientBoostingRegressor(max_iter=20, loss="poisson"),
        ensemble.AdaBoostRegressor(n_estimators=10, random_state=0),
        ensemble.StackingRegressor([("a", linear_model.Ridge()),
                                    ("b", ensemble.RandomForestRegressor(9, random_state=0))]),
        compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log, inverse_func=np.exp),
        cross_decomposition.PLSRegression(2),
        multioutput.MultiOutputRegressor(linear_model.Ridge()),
    ],
    "digits": [ensemble.RandomForestClassifier(20, random_state=0), naive_bayes.MultinomialNB(),
               pipeline.make_pipeline(decomposition.TruncatedSVD(5), logistic())],
}  # fmt: skip
AS_THEY_ARE = {
    "cancer": [scaled(kernel_approximation.Nystroem(n_components=9, random_state=0), logistic())],
    "wine": [neighbors.KNeighborsClassifier(), scaled(svm.SVC()), cluster.KMeans(3, n_init=1),
             gaussian_process.GaussianProcessClassifier(),
             discriminant_analysis.QuadraticDiscriminantAnalysis()],
    "diabetes": [svm.SVR(), neighbors.KNeighborsRegressor(),
                 pipeline.make_pipeline(preprocessing.SplineTransformer(), linear_model.Ridge())],
}  # fmt: skip


def cases(of):
    return [
        pytest.param(data, model, id=f"{data}-{at}-{type(model).__name__}")
        for data, models in of.items()
        for at, model in enumerate(models)
    ]


LOADERS = {
    "cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
    "digits": datasets.load_digits,
}


def report_of(data, model):
    loaded = LOADERS[data]()
    names = [str(name) for name in loaded.feature_names]
    frame, target = pl.DataFrame(loaded.data.astype(float), schema=names), loaded.target
    both = np.column_stack([target, target**2]) if "MultiOutput" in type(model).__name__ else target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame.to_pandas(), both)
        pickled = pickle.dumps(model)
        told = pl.Series("y", target)
        found = probe(model, frame, told, frame="polars", task="auto", pickled=pickled)
        files = conversion.files_of(found, frame, pickled)
    report = msgspec.json.decode(files[PARITY], type=Parity)
    assert (ONNX in files) == (report.serves == "onnx")
    return report


@pytest.mark.parametrize(("data", "model"), cases(CONVERTED))
def test_it_answers_the_same_in_onnx(data, model):
    report = report_of(data, model)
    assert not any(one.differing for one in report.sets), report.why
    assert "the same" in report.why.lower(), report.why


@pytest.mark.parametrize(("data", "model"), cases(AS_THEY_ARE))
def test_it_serves_as_it_is_and_the_report_says_why(data, model):
    report = report_of(data, model)
    assert report.serves == "original"
    assert (
        "cannot be converted" in report.why
        or "slower" in report.why
        or any(one.differing and one.worst for one in report.sets)
    )
