import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bonexray import analysis
from bonexray.analysis import (
    NetworkOutputs,
    choose_precision,
    cpu_multiplies_int8,
    judge_study,
    load_network,
    open_network,
    run_network,
)
from bonexray.bundle import open_bundle
from bonexray.errors import BundleError
from tests.small_bundle import GAIN, INT8_STEP, mean_network_int8, network_input


@pytest.fixture
def bundle(bundle_folder):
    return open_bundle(bundle_folder)


@pytest.fixture
def answer(bundle):
    session = open_network(bundle, threads=1)

    def answer_study(*views, claimed=None):
        images = network_input(views, bundle.info.image)
        return judge_study(run_network(session, images), bundle, [claimed] * len(views))

    return answer_study


@pytest.fixture
def open_altered(make_bundle, tmp_path):
    def open_model(model):
        make_bundle(tmp_path / "bundle", model)
        return open_network(open_bundle(tmp_path / "bundle"), threads=1)

    return open_model


@pytest.mark.parametrize(
    ("level", "told"), [(60, "negative"), (130, "doubtful"), (200, "positive")]
)
def test_a_study_is_told_as_worked_out_by_hand(answer, png, expected_probability, level, told):
    study = answer(png(level))
    assert study.study_probability == pytest.approx(expected_probability(level), abs=1e-6)
    assert study.study_verdict == told


def test_a_study_of_two_views_has_their_mean(answer, png, expected_probability):
    study = answer(png(60), png(200))
    expected = [expected_probability(60), expected_probability(200)]
    assert study.view_probabilities == pytest.approx(expected, abs=1e-6)
    assert study.study_probability == pytest.approx(np.mean(expected), abs=1e-6)
    assert study.view_body_parts == ("XR_ELBOW", "XR_WRIST")


def test_each_view_has_its_own_activation_map(answer, png):
    study = answer(png(60), png(200))
    assert study.view_cams.shape == (2, 4, 4)
    logits = np.log(study.view_probabilities / (1 - study.view_probabilities)) * 1.5
    assert study.view_cams.mean(axis=(1, 2)) == pytest.approx(logits, abs=1e-4)


def test_a_view_gets_the_same_bits_whatever_stands_beside_it(answer, png):
    view = png(130, noise=40)
    alone = answer(view).view_probabilities[0]
    assert answer(png(10), view, png(250)).view_probabilities[1] == alone


def test_a_logit_that_is_not_finite_is_never_told_as_doubtful(bundle):
    broken = NetworkOutputs(
        logits=np.array([np.nan], np.float32),
        part_logits=np.zeros((1, 7), np.float32),
        cams=np.zeros((1, 4, 4), np.float32),
        embeddings=np.zeros((1, 2), np.float32),
    )
    with pytest.raises(ArithmeticError):
        judge_study(broken, bundle, [None] * len(broken.logits))


def test_a_view_unlike_those_learned_from_is_left_out_of_its_study(
    answer, png, expected_probability
):
    study = answer(png(60), png(255))
    assert study.view_refusals == ("", "unlike")
    assert study.study_probability == pytest.approx(expected_probability(60), abs=1e-6)
    assert study.study_verdict == "negative"


def test_a_study_of_refused_views_alone_is_not_analysed(answer, png):
    study = answer(png(255), png(0))
    assert study.view_refusals == ("unlike", "unlike")
    assert study.study_verdict == "not_analysed"


def test_a_view_of_another_part_than_claimed_is_refused(answer, png):
    # A bright view is told to be a wrist with logits 0 to 6 times its mean.
    assert answer(png(200), claimed="XR_WRIST").view_refusals == ("",)
    assert answer(png(200)).view_refusals == ("",)
    study = answer(png(200), claimed="XR_ELBOW")
    assert study.view_refusals == ("other_part",)
    assert study.study_body_part == "XR_WRIST"
    assert study.study_verdict == "not_analysed"


def test_a_model_that_is_no_graph_is_refused(open_altered):
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be run"):
        open_altered(b"not a graph")


def test_a_graph_without_an_output_of_the_contract_is_refused(open_altered, network):
    graph = onnx.ModelProto()
    graph.CopyFrom(network)
    del graph.graph.output[2]
    with pytest.raises(BundleError, match="has no output cam"):
        open_altered(graph.SerializeToString())


@pytest.mark.parametrize(
    ("constant", "value", "complaint"),
    [
        ("parts", np.zeros((1, 5), np.float32), r"part_logits \(1, 5\)"),
        ("gain", np.array(np.nan, np.float32), "not finite"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    open_altered, network, constant, value, complaint
):
    graph = onnx.ModelProto()
    graph.CopyFrom(network)
    for tensor in graph.graph.initializer:
        if tensor.name == constant:
            tensor.CopyFrom(numpy_helper.from_array(value, constant))
    with pytest.raises(BundleError, match=complaint):
        open_altered(graph.SerializeToString())


@pytest.fixture
def bundle_int8(make_bundle, tmp_path):
    make_bundle(tmp_path / "int8", model_int8=mean_network_int8().SerializeToString())
    return open_bundle(tmp_path / "int8")


def test_in_int8_a_bundle_answers_with_the_rounding_of_its_int8_network(bundle_int8):
    views = np.random.default_rng(0).uniform(-2, 2, (3, 1, 32, 32)).astype(np.float32)
    answers = {
        precision: run_network(open_network(bundle_int8, precision=precision), views).logits
        for precision in ("int8", "fp32")
    }
    rounded = np.round(views / INT8_STEP) * INT8_STEP
    assert answers["int8"] == pytest.approx(GAIN * rounded.mean(axis=(1, 2, 3)), abs=1e-5)
    assert answers["fp32"] == pytest.approx(GAIN * views.mean(axis=(1, 2, 3)), abs=1e-5)
    assert (answers["int8"] != answers["fp32"]).all()


def test_a_bundle_without_an_int8_network_is_not_loaded_in_int8(bundle):
    with pytest.raises(BundleError, match=r"^model\.int8\.onnx: the bundle has none"):
        load_network(bundle, precision="int8")


def test_an_int8_network_that_cannot_be_run_is_refused_by_its_name(make_bundle, tmp_path):
    make_bundle(tmp_path / "torn", model_int8=b"no graph")
    with pytest.raises(BundleError, match=r"^model\.int8\.onnx: cannot be run"):
        load_network(open_bundle(tmp_path / "torn"), precision="int8")


def test_int8_is_chosen_only_where_wanted_held_and_exact(bundle, bundle_int8, monkeypatch):
    monkeypatch.setattr(analysis, "cpu_multiplies_int8", lambda: True)
    assert choose_precision(bundle_int8, "int8") == "int8"
    assert choose_precision(bundle_int8, "fp32") == "fp32"
    assert choose_precision(bundle, "int8") == "fp32"
    monkeypatch.setattr(analysis, "cpu_multiplies_int8", lambda: False)
    assert choose_precision(bundle_int8, "int8") == "fp32"


@pytest.mark.parametrize(
    ("listed", "exact"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\nvmx flags\t: vnmi\n", True),
        ("Features\t: fp asimd asimdhp asimddp\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd\n", False),
        ("flags\t\t: fpu avx_vnni\n\nflags\t\t: fpu avx2\n", False),
        ("model name\t: a CPU with avx_vnni\n", False),
        ("", False),
    ],
)
def test_a_cpu_multiplies_int8_when_each_core_lists_that_it_can(tmp_path, listed, exact):
    (tmp_path / "cpuinfo").write_text(listed)
    assert cpu_multiplies_int8(tmp_path / "cpuinfo") is exact


def test_a_machine_that_lists_nothing_is_not_trusted_with_int8(tmp_path):
    assert not cpu_multiplies_int8(tmp_path / "missing")
