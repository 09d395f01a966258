from __future__ import annotations

from custom.reporting.evaluation_figures import figure_groups, key_figures, look_up


def stat(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def figures_of(evaluation):
    return {figure.name: figure for _, figures in figure_groups(evaluation) for figure in figures}


def test_figures_are_grouped_in_reading_order():
    evaluation = {
        "image": {"auroc": stat(0.9)},
        "pixel": {"ap": stat(0.4)},
        "lesions": {"sensitivity": stat(0.5)},
        "reconstruction": {"index": 0.6},
        "ra_detection": {"published": {"f1": 0.7}},
    }
    names = [name for name, _ in figure_groups(evaluation)]
    assert names == ["Studies", "Lesions", "Pixels", "Detection as in the RA paper", "Pseudo-healthy images"]


def test_remarks_quote_the_numbers_of_the_evaluation():
    found = figures_of(
        {
            "image": {"auprc": stat(0.8), "prevalence": 0.25},
            "lesions": {"n": 84, "sensitivity": stat(0.5)},
            "pixel": {"false_positive_rate": 0.012, "pixel_false_positive_rate": 0.01},
        }
    )
    assert found["AUPRC"].remark == "0.25 (prevalence) = random"
    assert found["Lesions hit"].remark == "Of 84 lesions, by the calibrated mask"
    assert found["Pixel false-positive rate"].remark == "Target, from the calibration: 1.00 % of healthy pixels"


def test_remark_without_its_number_is_left_out():
    assert figures_of({"image": {"auprc": stat(0.8)}})["AUPRC"].remark == ""


def test_plain_numbers_count_as_statistics_without_interval():
    assert figures_of({"pixel": {"best_dice": 0.5}})["Best Dice"].stat == {"value": 0.5}


def test_statistics_of_too_few_studies_have_no_interval():
    found = figures_of({"image": {"auroc": stat(1.0)}})["AUROC"]
    assert found.stat == {"value": 1.0, "low": None, "high": None} and found.remark == "0.5 = random"


def test_figure_that_is_not_computable_gives_the_reason():
    found = figures_of(
        {"image": {"auroc": None}, "not_computable": {"image.auroc": "the test set has no abnormal study"}}
    )
    assert found["AUROC"].stat is None
    assert found["AUROC"].remark == "Not computable: the test set has no abnormal study"


def test_reason_of_a_whole_part_applies_to_each_of_its_figures():
    found = figures_of({"lesions": None, "not_computable": {"lesions": "no study has a mask"}})
    assert {f.remark for f in found.values()} == {"Not computable: no study has a mask"}
    assert set(found) == {"Lesions hit", "False regions"}


def test_figures_that_an_earlier_evaluation_lacks_are_left_out():
    assert set(figures_of({"image": {"auroc": stat(0.9)}})) == {"AUROC"}
    assert figure_groups({}) == []


def test_key_figures_are_always_five():
    names = [figure.name for figure in key_figures({}, None)]
    assert names == ["Study AUROC", "False-alarm rate", "Sensitivity", "Pixel AP", "Dice"]
    assert {figure.remark for figure in key_figures({}, None)} == {"Not computable from these data"}


def test_false_alarm_rate_is_shown_with_its_target():
    figure = key_figures({"false_alarm_rate": stat(0.0625)}, 0.05)[1]
    assert figure.remark == "Target: at most 5 %" and figure.percent


def test_look_up_ends_where_the_path_ends_early():
    assert look_up({"a": {"b": 1}}, "a.b") == 1
    assert look_up({"a": None}, "a.b", "none") == "none"
