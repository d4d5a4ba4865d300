"""`panoptic-deeplab benchmark`."""

import json

import pytest


def test_a_model_as_json(run, model_folder, tmp_path):
    output = tmp_path / "new" / "speed.json"
    outcome = run(
        *("benchmark", "--model", model_folder, "--sizes", 32, 64, 48, 48, "--batch-sizes", 1, 2),
        *("--seconds", 1e-9, "--precision", "bfloat16", "--json", "--output", output),
    )
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document == json.loads(output.read_text())
    rows = document["inference"]
    assert [(row["image_size"], row["batch_size"]) for row in rows] == [
        ([32, 64], 1),
        ([32, 64], 2),
        ([48, 48], 1),
        ([48, 48], 2),
    ]
    assert (rows[0]["runtime"], rows[0]["precision"], rows[0]["compiled"]) == ("pytorch", "bfloat16", False)
    assert rows[0]["stages"].keys() >= {"decode", "resize", "network", "centers", "upsample + argmax", "encode"}
    assert document["environment"]["versions"]["torch"]


def test_an_image_as_table(run, model_folder, photo):
    outcome = run("benchmark", "--model", model_folder, "--images", photo, "--seconds", 1e-9)
    assert outcome.code == 0, outcome.err
    assert "50 x 70" in outcome.out
    assert "end to end" in outcome.out


def test_training_of_a_recipe(run, tiny_recipe):
    outcome = run("benchmark", "--recipes", tiny_recipe, "--training", "--seconds", 1e-9, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["training"]
    assert row["batch_size"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of --model, --recipes and --paper"),
        (("--paper", "--recipes", "demo"), "Only one of --model, --recipes and --paper can be measured at once. Got 2"),
        (("--paper", "--sizes", "100", "100"), "`sizes` is not for --paper"),
        (("--paper", "--training"), "needs recipes"),
        (("--recipes", "demo", "--training", "--compile"), "`compile` is for prediction"),
        (("--recipes", "demo", "--batch-sizes", "0"), "must be positive"),
        (("--recipes", "demo", "--sizes", "16", "64"), "at least 32 x 32"),
        (("--recipes", "demo", "--threads", "0"), "must be positive"),
        (("--recipes", "demo", "--seconds", "0"), "must be positive"),
    ],
)
def test_options_that_make_no_sense(run, options, message):
    outcome = run("benchmark", *options)
    assert outcome.code == 2
    assert message in outcome.err
