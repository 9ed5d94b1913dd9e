"""Language of short texts: right where it speaks, silent where it cannot know."""

import pytest

from ftlab import load_task
from ftlab.language import detect_language

CASES = {
    "en": ["Which email address is the account registered under?", "i forgot my password, can you help", "please cancel my plan"],
    "es": ["¿Con qué correo está registrada la cuenta?", "no puedo entrar en mi cuenta", "quiero mi dinero de vuelta por favor"],
    "de": [
        "Unter welcher E-Mail-Adresse läuft das Konto?",
        "ich komme nicht mehr in mein konto",
        "bitte kündigen Sie meinen Vertrag",
    ],
    "fr": ["Quelle est l'adresse e-mail du compte ?", "je ne peux pas me connecter", "je voudrais une facture pour ma commande"],
}


@pytest.mark.parametrize(("language", "text"), [(lang, text) for lang, texts in CASES.items() for text in texts])
def test_plain_sentences_are_told_apart(language, text):
    assert detect_language(text) == language


@pytest.mark.parametrize("text", ["", "12345", "Lumen Drive", "ok", "🙂🙂"])
def test_texts_without_telling_words_get_no_language(text):
    assert detect_language(text) == ""


@pytest.mark.parametrize(
    "text", ["não consigo entrar na minha conta", "ik kan niet meer inloggen op mijn rekening", "nie mogę się zalogować"]
)
def test_neighbouring_languages_are_not_taken_for_the_four(text):
    assert detect_language(text) not in ("en", "es", "de", "fr")


def test_a_wider_margin_says_less():
    mixed = "hola I want to close mi cuenta please, gracias"
    assert detect_language(mixed, margin=5.0) == ""


def test_it_is_seldom_wrong_on_labelled_messages():
    rows = [row for row in load_task("support_plan").rows("train") if row.lang in CASES]
    spoken = [(row, found) for row in rows if (found := detect_language(row.text, margin=2.0, least=2.0))]
    wrong = [row.text for row, found in spoken if found != row.lang]
    assert len(spoken) > 0.6 * len(rows) and len(wrong) < 0.02 * len(spoken), wrong[:5]
