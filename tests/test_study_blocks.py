"""What the documents show of the studies, from results made up by hand."""

from ftlab import study_blocks

EFFECT = {"difference": 0.25, "low": 0.125, "high": 0.5, "by_seed": [0.25], "verdict": "shown"}


def test_what_has_no_results_says_how_to_get_them():
    assert set(study_blocks.blocks(lambda name: None).values()) == {study_blocks.UNSTUDIED}


def test_effects_stand_with_interval_verdict_and_control():
    study = {
        "compared": "loss of a minus loss of b, in nats per token", "effects": {"all text": EFFECT}, "control_passed": False,
        "config": {"size": "0.7M", "tokens": 4000}, "seeds": 5, "held_out_blocks": 128, "worth_nats": 0.05,
    }  # fmt: skip
    said = study_blocks.blocks({"pretrain": {"amount": study}}.get)["pretrain"]
    assert "| amount | loss of a minus loss of b; all text | +0.250 [+0.125, +0.500] | shown |" in said
    assert "5 seeds an arm" in said and "NOT passed" in said


def test_the_bill_is_told_in_units_to_read():
    law = {"points": 16, "error": 0.01} | {name: {"value": 0.3, "low": 0.2, "high": 0.4} for name in ("floor", "A", "a", "B", "b")}
    points = [{"parameters": n, "tokens": 1000, "loss": 3.0} for n in (100_000, 1_500_000)]
    hours = {"this machine": 876_600.0, "one GPU": 100.0, "1024 GPUs": 0.1}
    found = {
        "law": law, "points": points,
        "bill": [{"model": "135M", "tokens": 2.7e9, "why": "20 a parameter", "hours": hours}],
    }  # fmt: skip
    said = study_blocks.scaling(found)
    assert "100,000 to 1.5 M parameters" in said and "| 135M | 2.7 G | 20 a parameter | 100 years | 4 days | 0.1 h |" in said


def test_methods_have_a_line_each_and_say_what_is_missing():
    score = {"share": 0.5, "low": 0.4, "high": 0.6}
    scores = {key: score for key in ("schema_valid", "class_right", "strict", "general")}
    run = {"method": "lora", "scores": scores, "trainable_parameters": 1000, "peak_memory_mb": 10.0, "seconds": 3.0}
    found = {
        "methods": {"lora": {"rate": {"learning_rate": 0.002}}, "dora": {"rate": None}}, "rows": [run, run],
        "base": {"scores": {"general": score}}, "unfinished": ["dora_0"],
    }  # fmt: skip
    lines = study_blocks.methods(found).splitlines()
    assert lines[2] == "| lora | 0.002 | 1,000 | 50.0, 50.0 | 50.0, 50.0 | 50.0, 50.0 | 50.0, 50.0 | 10 | 3 |"
    assert lines[-1].endswith("Not done yet: dora_0.") and len(lines) == 5
