"""`ftlab data check` and `coverage`: planted faults are found where they stand, and clean rows stay clean."""

import json
import random
import time
from itertools import combinations

import numpy as np
import pytest
from conftest import toy_rows

from ftlab.checks import Checker
from ftlab.cli import main
from ftlab.datatools.check import Limits, check_sets, report_text
from ftlab.datatools.coverage import coverage, coverage_text, length_bin
from ftlab.datatools.labels import off_diagonal, suspects
from ftlab.datatools.noise import Guard
from ftlab.datatools.phrases import identifies, skeleton, templates, top_phrases
from ftlab.datatools.pii import SAMPLE_IBANS, TEST_CARDS, iban_ok, luhn, scan
from ftlab.datatools.sets import load_sets
from ftlab.datatools.similar import candidates, cosine_pairs, gram_pairs, jaccard, near_pairs, shingles, signatures
from ftlab.errors import DataError, UsageError
from ftlab.task import builtin_tasks

SENTENCES = {
    "train": {
        "refund": ["I never got what I paid for", "the parcel went back to you, where is the money", "charged twice, one of them is yours to return"],
        "login": ["the page refuses my password", "locked out since this morning", "signing in leads to a blank screen"],
        "other": ["do you sell umbrellas in green", "my dog likes your adverts", "which bus stops near the shop"],
    },
    "validation": {
        "refund": ["please undo last week's purchase", "give back my deposit", "that sum was taken by mistake"],
        "login": ["no code arrives on the telephone", "it says unknown user", "where do I reset things"],
        "other": ["is the museum open on Sundays", "write a poem about rain", "how tall is Everest"],
    },
    "test": {
        "refund": ["wrong size, reimburse us", "cancel the transaction from Tuesday", "your invoice shows double tax"],
        "login": ["account frozen after three attempts", "face recognition stopped working", "lost access with the old handset"],
        "other": ["any vacancies for bakers", "lovely website, well done", "what time is it in Lima"],
    },
}  # fmt: skip


def write(folder, stem, rows):
    (folder / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def varied(stem):
    """Nine labelled rows that have nothing in common with each other or with another file's."""
    rows = []
    for intent, texts in SENTENCES[stem].items():
        for text in texts:
            number = f"{100 + len(rows)}{list(SENTENCES).index(stem) + 1}"
            output = {"intent": intent, "number": number, "say": "Thank you."}
            rows.append({"id": f"{stem}{number}", "input": f"{text} {number}", "output": output, "tags": ["plain"], "lang": "en"})
    return rows


@pytest.fixture
def clean_folder(toy_folder):
    for stem in ("train", "validation", "test"):
        write(toy_folder, stem, varied(stem))
    return toy_folder


def kinds(folder, **limits):
    """(kind, place) of each finding that matters."""
    found = check_sets(load_sets(folder), Limits(**limits))["findings"]
    return {(f["kind"], f["where"]) for f in found if f["matters"]}


def messages(n=60):
    """Random texts in which many pairs share some words: every tenth is a changed copy."""
    draw, texts = random.Random(1), []
    for i in range(n):
        words = draw.choices([f"w{k}" for k in range(300)], k=draw.randrange(4, 30))
        if i % 3 == 2:
            words = texts[-1].split()
            words[draw.randrange(len(words))] = "changed"
        texts.append(" ".join(words))
    return texts


def test_minhash_agrees_with_exact_jaccard():
    """The share of equal places has the standard error sqrt(s (1 - s) / hashes), at most 0.5 / sqrt(1024) = 0.016."""
    sets = [shingles(text) for text in messages()]
    signed = signatures(sets, hashes=1024)
    errors = [(signed[i] == signed[j]).mean() - jaccard(sets[i], sets[j]) for i, j in combinations(range(len(sets)), 2)]
    assert abs(np.mean(errors)) < 0.005 and max(map(abs, errors)) < 5 * 0.016


def test_banding_misses_no_pair_that_is_near():
    sets = [shingles(text) for text in messages()]
    near = {(i, j) for i, j in combinations(range(len(sets)), 2) if jaccard(sets[i], sets[j]) >= 0.5}
    assert len(near) > 10 and near <= candidates(signatures(sets))


def test_gram_pairs_are_those_of_a_search_through_all():
    texts = messages()
    every = {(i, j): jaccard(shingles(texts[i]), shingles(texts[j])) for i, j in combinations(range(len(texts)), 2)}
    assert {pair[:2]: pair.similarity for pair in gram_pairs(texts, 0.6)} == {key: s for key, s in every.items() if s >= 0.6}


def test_a_crowded_bucket_gives_every_member_a_partner_in_linear_time():
    pairs = candidates(signatures([shingles("the same words again")] * 400))
    assert {i for pair in pairs for i in pair} == set(range(400)) and len(pairs) < 3 * 400


def test_cosine_pairs_are_scikit_learns():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    texts = messages()
    exact = cosine_similarity(TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit_transform(texts))
    found = {pair[:2]: pair.similarity for pair in cosine_pairs(texts, 0.5, block=7)}
    assert found.keys() == {(i, j) for i, j in combinations(range(len(texts)), 2) if exact[i, j] >= 0.5}
    assert all(value == pytest.approx(exact[key], abs=1e-5) for key, value in found.items())


def test_a_short_misspelt_message_is_near_though_it_shares_no_three_words():
    (pair,) = near_pairs(["forgot my password", "forgott my password", "where is the parcel"], 0.7)
    assert pair[:2] == (0, 1) and pair.view == "TF-IDF"


def test_texts_without_words_are_no_error():
    assert near_pairs(["???", "!!", "🙂"], 0.8) == [] or all(pair.similarity >= 0.8 for pair in near_pairs(["???", "!!"], 0.8))


def test_clean_rows_are_clean(clean_folder, capsys):
    assert kinds(clean_folder) == set()
    assert main(["data", "check", str(clean_folder)]) == 0
    assert "clean" in capsys.readouterr().out


def test_rows_of_one_template_are_found(toy_folder):
    found = [f for f in check_sets(load_sets(toy_folder))["findings"] if f["kind"] == "template"]
    assert len(found) == 9 and any("'money back for order VALUE'" in f["message"] for f in found)  # the fixture's nine wordings
    assert main(["data", "check", str(toy_folder)]) == 1


def test_a_copy_in_a_held_out_set_is_leakage(clean_folder):
    rows = varied("test")
    rows[4]["input"] = "locked out since this morning! 1041"
    rows[4]["output"]["number"] = "1041"
    write(clean_folder, "test", rows)
    assert ("leakage", "test.jsonl:5") in kinds(clean_folder)


def test_a_repeated_row_is_a_duplicate_and_another_answer_a_conflict(clean_folder):
    first = varied("train")[0]
    again = first | {"id": "again", "input": first["input"].upper()}
    other = first | {"id": "other", "output": first["output"] | {"intent": "other"}}
    write(clean_folder, "train", [*varied("train"), again, other])
    assert {("duplicate", "train.jsonl:10"), ("conflict", "train.jsonl:11")} <= kinds(clean_folder)


def test_another_class_where_only_values_differ_is_a_conflict(clean_folder):
    first = varied("train")[0]
    twin = {"id": "twin", "input": first["input"].replace("1001", "7"), "output": {"intent": "login", "number": "7", "say": "Hm."}}
    write(clean_folder, "train", [*varied("train"), twin])
    assert ("conflict", "train.jsonl:10") in kinds(clean_folder)


def test_a_value_that_decides_is_no_conflict_where_the_writer_calls_the_row_a_twin(clean_folder):
    first = varied("train")[0]
    twin = {"id": "twin", "input": first["input"].replace("1001", "7"), "output": {"intent": "login", "number": "7", "say": "Hm."}}
    write(clean_folder, "train", [*varied("train"), twin | {"tags": ["twin"]}])
    assert ("conflict", "train.jsonl:10") not in kinds(clean_folder)
    found = check_sets(load_sets(clean_folder), Limits(similarity=0.5))["findings"]
    assert [f["where"] for f in found if f["kind"] == "twin"] == ["train.jsonl:10"]


def test_a_twin_whose_words_differ_is_only_to_be_looked_at(clean_folder):
    first = varied("train")[0]
    twin = first | {
        "id": "twin",
        "input": first["input"].replace("never", "finally"),
        "output": first["output"] | {"intent": "other"},
    }
    write(clean_folder, "train", [*varied("train"), twin])
    result = check_sets(load_sets(clean_folder), Limits(similarity=0.5))
    assert result["clean"] and [f["where"] for f in result["findings"] if f["kind"] == "twin"] == ["train.jsonl:10"]


def test_broken_rows_are_findings_and_the_rest_is_still_checked(clean_folder, capsys):
    bad = varied("train")[0] | {"id": "bad", "output": {"intent": "nothing"}}
    write(clean_folder, "train", [bad, *varied("train"), varied("train")[3] | {"id": "again"}])
    assert {("broken", "train.jsonl:1"), ("duplicate", "train.jsonl:11")} <= kinds(clean_folder)
    assert main(["data", "check", str(clean_folder)]) == 1 and "train.jsonl:1: its output breaks" in capsys.readouterr().out


def test_a_card_number_in_a_row_matters_and_an_address_is_looked_at(clean_folder):
    rows = varied("train")
    rows[0]["input"] += " card 4539 5787 6362 1486, mail anna.berg77@gmail.com"
    write(clean_folder, "train", rows)
    assert kinds(clean_folder) == {("personal", "train.jsonl:1")}
    found = [f for f in check_sets(load_sets(clean_folder))["findings"] if f["kind"] == "personal"]
    assert [f["matters"] for f in found] == [True, False]


def test_an_identifying_value_in_two_splits_is_found(clean_folder):
    rows = varied("test")
    rows[0] |= {"input": "something else entirely KD-10010", "output": rows[0]["output"] | {"number": "KD-10010"}}
    train = varied("train")
    train[5] |= {"input": "nothing works KD-10010", "output": train[5]["output"] | {"number": "KD-10010"}}
    write(clean_folder, "test", rows)
    write(clean_folder, "train", train)
    result = check_sets(load_sets(clean_folder))
    (found,) = [f for f in result["findings"] if f["kind"] == "value_reuse"]
    assert (found["where"], found["others"]) == ("train.jsonl:6", ("test.jsonl:1",)) and result["values"]["number"][
        "held_out_in_training"
    ] == 1


def test_every_finding_is_in_the_json_and_none_hidden_in_the_text(toy_folder, tmp_path, capsys):
    assert main(["data", "check", str(toy_folder), "--show", "0", "--json", str(tmp_path / "new" / "c.json")]) == 1
    (result,) = json.loads((tmp_path / "new" / "c.json").read_text())
    said = capsys.readouterr().out
    assert len(result["findings"]) == sum(n for counts in result["counts"].values() for n in counts.values())
    assert all(f"{f['where']}: {f['message']}" in said for f in result["findings"] if f["matters"])
    assert report_text(result, 0) in said and f"… and {result['counts']['twin']['look']} more" in said


@pytest.mark.parametrize("name", ["general", *builtin_tasks()])
def test_built_in_sets_have_no_broken_repeated_templated_or_contradicting_rows(name):
    sets = load_sets(name)
    assert sets.broken == ()
    texts, roles = [row.text for row in sets.rows], sets.roles
    assert not [pair for pair in gram_pairs(texts, 0.8) if roles[pair.first] != roles[pair.second]]
    assert templates([skeleton(text, []) for text in texts], 0.02) == []


def test_a_folder_without_schema_is_checked_by_its_texts(tmp_path):
    write(tmp_path, "prompts", [{"id": "p", "input": "What is the capital city of Norway?"}])
    (tmp_path / "prompts.sha256").write_text("")
    write(tmp_path, "train", [{"id": "t", "input": "what is the capital city of norway"}])
    assert kinds(tmp_path) == {("leakage", "train.jsonl:1")}


def test_preference_pairs_belong_to_their_task(clean_folder):
    write(clean_folder, "pairs", [{"id": "p", "input": varied("test")[0]["input"], "chosen": "a", "rejected": "b"}])
    assert kinds(clean_folder) == {("leakage", "pairs.jsonl:1")}


def test_skeletons_mask_values_and_keep_words():
    values = [("entities.name", "Ann Lee"), ("entities.order_id", "KD-12")]
    assert skeleton("Refund for KD-12, I am Ann  Lee: a@b.example!", values) == "refund for VALUE i am VALUE VALUE"
    assert skeleton("card 4111 1111 1111 1111 gone", []) == "card VALUE gone"


def test_templates_need_a_share_and_three_rows():
    """Of 100 rows, 3 are more than 2 %, 2 are not; of 4 rows, 2 are half of them and still no template."""
    assert [t.text for t, _ in templates(["a"] * 3 + ["b"] * 2 + [f"c{i}" for i in range(95)], 0.02)] == ["a"]
    assert templates(["a", "a", "b", "c"], 0.02) == []


def test_a_phrase_counts_once_a_row():
    (first, *_) = top_phrases(["a b a b a b", "a b", "c d"], 2, 5)
    assert first == ("a b", 2, 2 / 3)


@pytest.mark.parametrize(
    ("value", "expected"), [("a@b.example", True), ("KD-55902", True), ("$20.00", False), ("119,88 €", False), ("drive", False)]
)
def test_identifying_values_are_told_from_common_ones(value, expected):
    assert identifies(value) is expected


def test_luhn_by_hand():
    """79927398713 is the example of ISO/IEC 7812-1: the doubled digits add up to 70 with the check digit 3."""
    assert [d for d in range(10) if luhn(f"7992739871{d}")] == [3]


def test_known_samples_have_right_check_digits_and_are_passed_over():
    assert all(map(luhn, TEST_CARDS)) and all(map(iban_ok, SAMPLE_IBANS))
    assert [found for number in TEST_CARDS | SAMPLE_IBANS for found in scan(f"it is {number} .")] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("my card 4539578763621486", "card"), ("4539-5787-6362-1486", "card"), ("4539 5787 6362 1487", None), ("order 4539578763621486-X", None),
        ("IBAN DE75512108001245126199", "iban"), ("DE75 5121 0800 1245 1261 99", "iban"), ("DE75 5121 0800 1245 1261 99 thanks a lot", "iban"), ("DE76512108001245126199", None),
        ("me.myself@gmail.com", "email"), ("test123@gmail.com", None), ("anna@firm.example", None),
        ("call 07911 123496", "phone"), ("call 07700 900123", None), ("(212) 555-0142", None), ("(212) 736-5000", "phone"),
        ("+49 30 23125 555", None), ("06 39 98 12 34", None), ("+33 6 47 20 91 38", "phone"), ("order 212-736-5000-X", None),
        ("ssn 118-90-4427", "ssn"), ("000-12-3456", None), ("ip 8.8.8.8", "ip"), ("ip 192.0.2.7", None), ("v10.1.2.3", None),
        ("AKIAIOSFODNN7EXAMPLE", None), ("AKIAABCDEFGHIJKLMNOP", "secret"),
    ],
)  # fmt: skip
def test_real_looking_values_are_told_from_reserved_ones(text, kind):
    assert [found.kind for found in scan(text)] == ([kind] if kind else [])


@pytest.mark.parametrize("text", ["a" * 100_000, "1 " * 50_000, "a." * 50_000, "DE12 " * 20_000, "x@" * 50_000, "!" * 100_000])
def test_long_texts_take_no_square_of_their_length(text):
    """A hundred thousand signs take a few tenths of a second; a search that backs up at every sign would take minutes."""
    start = time.process_time()
    scan(text), skeleton(text, []), Guard(["Ann Lee"]).free(f"a{text}a")
    assert time.process_time() - start < 5


def test_confident_learning_by_hand():
    """Limits are the mean self-confidences, (0.9 + 0.3) / 2 = 0.6 for class 0 and (0.8 + 0.45) / 2 = 0.625 for class 1. Row 1 reaches
    0.7 in class 1 and is off the diagonal; row 3, though class 0 is likelier, reaches neither limit."""
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.55, 0.45]])
    assert off_diagonal(p, [0, 0, 1, 1]) == [(1, 1)]


def test_only_strongly_doubted_labels_are_findings_and_the_rest_is_counted(toy_folder):
    rows = toy_rows(60)
    for i in (1, 2):
        rows[i]["output"]["intent"] = "refund"
    write(toy_folder, "train", rows)
    sets = load_sets(toy_folder)
    found = {m: check_sets(sets, Limits(label_margin=m)) for m in (-1.0, 1.0)}
    labels = {m: sum(f["kind"] == "label" for f in result["findings"]) for m, result in found.items()}
    assert labels == {-1.0: found[1.0]["doubted"], 1.0: 0} and found[1.0]["doubted"] >= 2


def test_flipped_labels_are_the_most_suspect():
    draw = random.Random(3)
    vocabulary = {"a": "apple pear plum grape fig", "b": "bolt nut screw nail hinge"}
    labels = ["a", "b"] * 60
    texts = [" ".join(draw.choices(vocabulary[label].split(), k=6)) for label in labels]
    flipped = {5, 40, 77}
    given = [{"a": "b", "b": "a"}[label] if i in flipped else label for i, label in enumerate(labels)]
    found, not_judged = suspects(texts, [*given, "rare"][:-1])
    assert {s.index for s in found[:3]} == flipped and not_judged == 0


def test_rows_of_a_rare_class_are_counted_as_not_judged():
    found, not_judged = suspects(["x y"] * 10 + ["z"] * 2, ["a", "b"] * 5 + ["c"] * 2)
    assert not_judged == 2 and all(s.label != "c" for s in found)


def test_coverage_counts_every_row_and_names_every_empty_cell(clean_folder):
    result = coverage(load_sets(clean_folder), "all")
    assert sum(n for *_, n in result["cells"]) == result["rows"] == 27
    size = np.prod([len(values) for values in result["axes"].values()])
    assert len(result["cells"]) + len(result["empty"]) == size
    assert ["refund", "1-3"] in result["empty_pairs"]["class × words"] and "refund + 1-3" in coverage_text(result)


def test_a_class_without_rows_is_an_empty_row_of_the_table(clean_folder):
    write(clean_folder, "train", [row for row in varied("train") if row["output"]["intent"] != "login"])
    result = coverage(load_sets(clean_folder))
    assert ["login", "plain"] in result["empty_pairs"]["class × tag"]


@pytest.mark.parametrize(("n", "name"), [(1, "1-3"), (3, "1-3"), (4, "4-8"), (60, "31-60"), (61, "61+")])
def test_lengths_fall_into_their_bins(n, name):
    assert length_bin("word " * n) == name


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["check", "nowhere"], 2, "found no folder 'nowhere'"),
        (["check", "{toy}", "--threshold", "0"], 2, "--threshold: expected a number above 0"),
        (["check", "{toy}", "--template-share", "2"], 2, "--template-share: expected a number above 0"),
        (["check", "{toy}", "--show", "-1"], 2, "--show: expected 0 or more"),
        (["check", "{tmp}"], 2, "expected .jsonl files with rows"),
        (["coverage", "{toy}", "--file", "dev"], 2, "--file dev: expected all or one of train"),
        (["check", "{toy}", "--json", "/dev/null/x/c.json"], 1, "check the path"),
    ],
)
def test_wrong_use_is_one_sentence(toy_folder, tmp_path, capsys, command, status, says):
    (tmp_path / "empty").mkdir()
    assert main(["data", *(part.format(toy=toy_folder, tmp=tmp_path / "empty") for part in command)]) == status
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_folder_with_no_good_row_says_which_are_broken(toy_folder):
    (toy_folder / "train.jsonl").write_text("{\n")
    with pytest.raises(DataError) as error:
        load_sets(toy_folder)
    assert error.value.problems[0].startswith("train.jsonl:1: not a line of JSON")


def test_limits_refuse_what_is_no_share():
    with pytest.raises(UsageError, match="--threshold"):
        Limits(similarity=1.5)


def test_varied_rows_keep_to_the_toy_schema(toy_task):
    checker = Checker(toy_task.schema)
    assert all(checker.check(json.dumps(row["output"]), row["input"]).ok for stem in ("train", "test") for row in varied(stem))


def test_a_paraphrase_across_sets_is_told_on_demand_and_leaves_the_folder_clean(clean_folder):
    said = {"intent": "refund", "number": "777", "say": "Thank you."}
    rows = [{"id": "p1", "input": "I would like a refund for case 777", "output": said, "tags": ["plain"], "lang": "en"}]
    write(clean_folder, "train", varied("train") + rows)
    rows = [{"id": "p2", "input": "please give me my money back, case 777", "output": said, "tags": ["plain"], "lang": "en"}]
    write(clean_folder, "test", varied("test") + rows)
    sets = load_sets(clean_folder)
    without, found = check_sets(sets), check_sets(sets, Limits(meaning=0.7))
    assert without["counts"]["paraphrase"]["look"] == 0 and found["clean"]
    told = [f for f in found["findings"] if f["kind"] == "paraphrase"]
    assert [f["where"].split(":")[0] for f in told] == ["test.jsonl"] and "train.jsonl:10" in told[0]["message"]


@pytest.mark.parametrize("cosine", ["-1", "1.5", "nan"])
def test_a_cosine_out_of_range_is_refused(clean_folder, cosine, capsys):
    assert main(["data", "check", str(clean_folder), "--embedding", cosine]) == 2
    assert "--embedding: expected a number from 0" in capsys.readouterr().err
