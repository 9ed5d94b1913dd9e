"""Which of a few languages a short text is in, decided by its most frequent words; "" when that is not clear.

Made for one rule of the checker ("answer in the language of the message"), so it prefers silence to a guess. It knows English,
Spanish, German and French, and enough of some neighbours (Portuguese, Italian, Dutch, Polish) not to mistake them.
"""

import re
from collections import Counter
from functools import lru_cache

_WORDS = {
    "en": """a about account again all am an and any are as at back be been billing but by can card charged could did do does don't
    email for forgot from get got has have hello help hi how i i'd i'm i've if in is it it's its just last login me my need new no not
    now of on or order our out over pay payment please reset send should so some that the them then there they this to today two up us
    use want was we what when where which who why will with would you your you're still can't cant dont money plz pls thx cos u ur im ive gonna wanna open use ask choose write""",
    "es": """a al algo aunque ayuda buenas buenos cambiar cobro como cómo con correo cual cuál cuando cuanto cuenta cuándo de del desde
    día el ella en entrar era es esta estaba estoy está este esto factura favor fue gracias ha hace hasta hay he hola la las lo los
    luego me mi mis muy más nada necesito ni no nos nuevo número o olvidé otra otro para pedido pero plan poder por porque puede puedo
    pues que quiero qué quería registrada se si sin sobre solo son su sus sí también tarjeta te tengo tiene todo tu un una unos usted
    vez ya yo contraseña olvide mas aqui aquí dar dinero baja tienes sois deje dejé quisiera abra abre abran escriba escribe ahí ahi registre registra nueva confirme elija elige envíe desde dirección tiene puedes usa use""",
    "de": """aber alle alles als am an auch auf aus bei bin bis bitte brauche da damit dann das dass dem den denn der des die doch
    du ein eine einem einen einer er es etwas euch euer für fuer gerade gibt guten hab habe haben hallo hat heute hier ich ihnen ihr ihre
    ihrer ihren im immer in ist ja jetzt kann karte kein keine keinen konto können koennen kündigen lautet mal mehr mein meine meinem
    meinen meiner mich mir mit möchte moechte muss nach nicht nichts noch nun nur oder ohne passwort rechnung schon sein seit sich sie
    sind so tag um und uns unter vergessen vom von vor war warum was welche welcher wenn werden wie wieder will wir wird wo wurde zu zum
    zur über ueber zahlen bestellung geld öffnen öffne wählen wähle dort nutzen nutze geben unter lauten läuft""",
    "fr": """a ai alors après au aucun aussi aux avec avez avoir bien bonjour c'est ce cela ces cette changer comment commande compte
    dans de depuis des dois donc du elle en est et être fait facture faire je j'ai jai jamais la le les leur lui ma mais me merci mes mon
    mot même ne nom non nos notre nous nouveau nouvelle on ou où par parce pas passe peux plus pour pouvez pourquoi puis quand que quel
    quelle qui rien s'il sa sans se si soit son sont sur svp ta te toujours tout toutes très tu un une vers veux voudrais vos votre vous
    y à ça adresse argent carte quelqu'un d'une d'un ouvrez ouvre choisissez choisis utilisez utilise indiquez veuillez puis merci""",
    "pt": """ao as com como conta da das do dos e ela ele em eu foi isso já mais mas meu meus minha muito na nas nem no nos não nao
    obrigado obrigada para pela pelo por preciso quando que quero se sem senha são também tem tenho um uma você voce vocês cartão fatura
    olá ola bom dia meu""",
    "it": """abbonamento al alla anche che chi ci ciao come con conto da dal del della di dove e è fattura grazie ha ho i il in io la le
    lo ma mi mia mio nel non per perché più posso quando quello questo salve sono su un una vi voglio vorrei indirizzo mia buongiorno""",
    "nl": """aan als bij dag dan dat de deze die dit een en er geen goed graag had heb heeft het hij hoe ik in is jullie kan kunnen
    maar me met mij mijn moet naar niet nog nu of om ook op rekening te u uit van voor waar wachtwoord wat we wel wil worden zijn zo
    betaling hallo""",
    "pl": """ale bo by być chcę chce co czy dla do dzień dobry hasła hasło haslo i ja jak jest jestem już konta konto który mi mnie moje
    mojego mam można na nie o od po pomoc poproszę prosić proszę prosze przez się sie są tak to w z za ze że fakturę fakture""",
}
KNOWN = tuple(_WORDS)
_INDEX: dict[str, tuple[str, ...]] = {}
for _language, _words in _WORDS.items():
    for _word in _words.split():
        _INDEX[_word] = (*_INDEX.get(_word, ()), _language)
_INDEX = {word: tuple(dict.fromkeys(languages)) for word, languages in _INDEX.items()}
_TOKEN = re.compile(r"[^\W\d_][^\W\d_']*(?:'[^\W\d_]+)?")
_MARKS = {"ñ": "es", "¿": "es", "¡": "es", "ß": "de", "ä": "de", "œ": "fr", "ã": "pt", "õ": "pt", "ł": "pl", "ż": "pl", "ę": "pl"}


@lru_cache(maxsize=4096)
def detect_language(text: str, margin: float = 1.5, least: float = 1.0) -> str:
    """The language of `text` as a two-letter code, or "" when the words do not tell.

    A word that several languages share counts for each of them in equal parts. The best language must lead the second by the
    factor `margin` and score at least `least`.

    Args:
        text: any text; the first 200 characters are looked at.
        margin: least ratio between best and second score; above 1 means more silence, fewer mistakes.
        least: least score, in words that only this language uses.
    """
    text = text[:200].casefold().replace("’", "'")
    scores = dict.fromkeys(KNOWN, 0.0)
    for languages, n in Counter(filter(None, map(_INDEX.get, _TOKEN.findall(text)))).items():
        for language in languages:
            scores[language] += n / len(languages)
    for mark, language in _MARKS.items():
        if mark in text:
            scores[language] += 1.5
    second, high = sorted(scores.values())[-2:]
    best = max(scores, key=scores.get)
    return best if high >= least and high >= margin * second else ""
