"""Values in the rows that could belong to a real person: each is a place to look at, not a proof.

What is reserved for examples is passed over: test card numbers, sample IBANs, telephone numbers kept for fiction, example domains and
documentation addresses.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

PUBLIC_DOMAINS = frozenset(
    """gmail.com googlemail.com outlook.com hotmail.com hotmail.co.uk hotmail.fr hotmail.de hotmail.es live.com msn.com icloud.com me.com
    mac.com aol.com yahoo.com yahoo.co.uk yahoo.fr yahoo.de yahoo.es ymail.com proton.me protonmail.com pm.me gmx.de gmx.net gmx.at gmx.ch
    gmx.com web.de t-online.de freenet.de posteo.de mailbox.org orange.fr wanadoo.fr free.fr laposte.net sfr.fr telefonica.net terra.es
    btinternet.com comcast.net verizon.net qq.com 163.com mail.ru yandex.ru zoho.com fastmail.com""".split()
)
_NO_NAME = re.compile(
    r"(?:test|example|sample|demo|user|name|your|someone|nobody|foo|bar|info|support|admin|no-?reply|x+|a+|abc)[\d._-]*"
)

# Source: the test pages of Stripe, PayPal, Adyen and Braintree
TEST_CARDS = frozenset(
    """4242424242424242 4111111111111111 4012888888881881 4222222222222 4000056655665556 4444333322221111 4988438843884305 4917610000000000
    5555555555554444 5105105105105100 5200828282828210 5454545454545454 5431111111111111 2223003122003222 2222400070000005
    378282246310005 371449635398431 378734493671000 370000000000002 6011111111111117 6011000990139424 6011000000000004
    3056930009020004 30569309025904 38520000023237 36227206271667 3566002020360505 3530111333300000 6200000000000005""".split()
)
# Source: the IBAN registry of SWIFT and the examples of ECBS
SAMPLE_IBANS = frozenset(
    """DE89370400440532013000 GB29NWBK60161331926819 GB82WEST12345698765432 GB33BUKB20201555555555 FR1420041010050500013M02606
    FR7630006000011234567890189 ES9121000418450200051332 ES7921000813610123456789 NL91ABNA0417164300 IT60X0542811101000000123456
    AT611904300234573201 BE68539007547034 CH9300762011623852957 PT50000201231234567890154 IE29AIBK93115212345678""".split()
)
# numbers kept for fiction, as digits with or without the country code; "555-0" reads as fiction everywhere
# Source: NANPA (555-0100 to 0199); Ofcom, "Telephone numbers for use in TV and radio drama programmes"; Bundesnetzagentur, Mitteilung
# 148/2021 ("Drama Numbers"); ARCEP, décision 2018-0881; ACMA, "Phone numbers for use in TV shows, films and creative works"
_FICTION = re.compile(
    r"\d*5550\d*"
    r"|(?:44|0)(?:(?:11[3-8]|1[2-6]1)4960\d{3}|1914980\d{3}|2079460\d{3}|2896496\d{3}|2920180\d{3}|1632960\d{3}|7700900\d{3}|"
    r"8081570\d{3}|9098790\d{3}|3069990\d{3})"
    r"|(?:49|0)(?:3023125\d{3}|6990009\d{3}|4066969\d{3}|2214710\d{3}|8999998\d{3}|17139200\d\d|17604069\d{3}|15228817386|"
    r"15228895456|15254599371|1729925904|1729968532|1729973185|1729973186|1729980752)"
    r"|(?:33|0)(?:19900|26191|35301|46571|53649|63998)\d{4}"
    r"|(?:61|0)(?:[2378]7010\d{4}|49157\d{4})"
)
_CARD = re.compile(r"(?<![\w+])[2-6]\d{3}(?:[ .-]?\d){8,15}(?!\w|-\w)")
_IBAN = re.compile(r"\b([A-Z]{2})\d{2}(?: ?[A-Z0-9]){11,30}", re.IGNORECASE)
# characters by country; without it the words after an IBAN would be read as part of it. Source: the IBAN registry of SWIFT
_IBAN_LENGTH = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI NL", "19": "SI", "20": "AT EE LT LU", "21": "CH HR LI LV", "22": "BG DE GB IE VA",
        "23": "AE GI", "24": "AD CZ ES RO SA SE SK", "25": "PT", "26": "IS TR", "27": "FR GR IT MC SM", "28": "CY HU PL", "29": "BR",
        "31": "MT",
    }.items()
    for country in countries.split()
}  # fmt: skip
_MAIL = re.compile(r"(?<![\w.+-])([\w.+-]++)@([\w-]++(?:\.[\w-]++)+)")  # subtle: nothing backs up, so long texts cost no square
_PHONE = re.compile(
    r"(?<![\w@.#-])(?:\+\d{1,3}[\d ()/.-]{6,16}\d|\(?0\d{1,4}\)?[ /.-]\d[\d /.-]{4,11}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w@]|-\w)"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_SECRET = re.compile(
    r"\b(?:sk_live_\w{16,}|AKIA(?!IOSFODNN7EXAMPLE)[A-Z0-9]{16}|gh[pousr]_\w{36,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
)


class Personal(NamedTuple):
    """A value that looks real: what kind, as written, and why."""

    kind: str
    value: str
    why: str


def luhn(number: str) -> bool:
    """True if the last digit is the check digit of the others.

    Source: ISO/IEC 7812-1, annex B.
    """
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(number))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def iban_ok(iban: str) -> bool:
    """True if the check digits are right.

    Source: ISO 13616-1; the remainder by 97 of the rearranged number is 1.
    """
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _cards(text: str) -> Iterator[Personal]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        # subtle: "4000 0000 0000 0002" and the like are made for testing too; real numbers have no such runs
        invented = digits in TEST_CARDS or re.search(r"1234567|0{6}|(\d)\1{6}|(\d{4})\2{2}", digits)
        if luhn(digits) and not invented:
            yield Personal("card", match.group(), "a card number with a right check digit that is no known test number")


def _ibans(text: str) -> Iterator[Personal]:
    for match in _IBAN.finditer(text):
        iban = "".join(match.group().split()).upper()[: _IBAN_LENGTH.get(match[1].upper(), 0)]
        if iban and iban not in SAMPLE_IBANS and iban_ok(iban):
            yield Personal("iban", iban, "an IBAN with right check digits that is no known sample")


def _mails(text: str) -> Iterator[Personal]:
    for match in _MAIL.finditer(text):
        name, domain = match[1].lower(), match[2].lower()
        if domain in PUBLIC_DOMAINS and len(name) >= 3 and re.search(r"[a-z]{2}", name) and not _NO_NAME.fullmatch(name):
            yield Personal("email", match.group(), f"an address at {domain}, where anybody can have one")


def _phones(text: str) -> Iterator[Personal]:
    for match in _PHONE.finditer(_IBAN.sub(" ", text)):
        digits = re.sub(r"\(0\)|\D", "", match.group())
        if 9 <= len(digits) <= 15 and not _FICTION.fullmatch(digits.removeprefix("00")) and not _nobodys(digits):
            yield Personal("phone", match.group(), "a telephone number outside the ranges kept for fiction")


def _nobodys(digits: str) -> bool:
    """True for a number that nobody has: it begins with three zeros, or repeats a digit five times, or counts up."""
    return bool(re.search(r"^000|(\d)\1{4}|12345", digits))


def _others(text: str) -> Iterator[Personal]:
    for match in _SSN.finditer(text):
        yield Personal("ssn", match.group(), "a social security number of a form that is given out")
    for match in _SECRET.finditer(text):
        yield Personal("secret", match.group(), "a key or token of a form that is in use")
    for match in _IP.finditer(text):
        try:
            public = ipaddress.ip_address(match.group()).is_global
        except ValueError:
            continue
        if public:
            yield Personal("ip", match.group(), "an address of the public internet")


_SCANS: tuple[Callable[[str], Iterator[Personal]], ...] = (_cards, _ibans, _mails, _phones, _others)
CERTAIN = frozenset({"card", "iban", "secret"})  # a check digit or a fixed form tells these; the others are only likely


def scan(text: str) -> list[Personal]:
    """Every real-looking value in `text`, each once."""
    return list(dict.fromkeys(found for look in _SCANS for found in look(text)))
