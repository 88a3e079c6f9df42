"""Languages of speech: the codes that Whisper's models have, and their names in English."""

from __future__ import annotations

from nsedge.errors import InvalidParameter

_TABLE = """\
en=english zh=chinese de=german es=spanish ru=russian ko=korean fr=french ja=japanese pt=portuguese
tr=turkish pl=polish ca=catalan nl=dutch ar=arabic sv=swedish it=italian id=indonesian hi=hindi
fi=finnish vi=vietnamese he=hebrew uk=ukrainian el=greek ms=malay cs=czech ro=romanian da=danish
hu=hungarian ta=tamil no=norwegian th=thai ur=urdu hr=croatian bg=bulgarian lt=lithuanian la=latin
mi=maori ml=malayalam cy=welsh sk=slovak te=telugu fa=persian lv=latvian bn=bengali sr=serbian
az=azerbaijani sl=slovenian kn=kannada et=estonian mk=macedonian br=breton eu=basque is=icelandic
hy=armenian ne=nepali mn=mongolian bs=bosnian kk=kazakh sq=albanian sw=swahili gl=galician
mr=marathi pa=punjabi si=sinhala km=khmer sn=shona yo=yoruba so=somali af=afrikaans oc=occitan
ka=georgian be=belarusian tg=tajik sd=sindhi gu=gujarati am=amharic yi=yiddish lo=lao uz=uzbek
fo=faroese ht=haitian_creole ps=pashto tk=turkmen nn=nynorsk mt=maltese sa=sanskrit lb=luxembourgish
my=myanmar bo=tibetan tl=tagalog mg=malagasy as=assamese tt=tatar haw=hawaiian ln=lingala ha=hausa
ba=bashkir jw=javanese su=sundanese yue=cantonese"""
LANGUAGES = {
    code: name.replace("_", " ") for code, name in (pair.split("=") for pair in _TABLE.split())
}
"""By code."""
_ALIASES = {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
    "jv": "jw",
    "iw": "he",
}
"""Further names and codes."""
_CODES = {name: code for code, name in LANGUAGES.items()} | _ALIASES


def language_code(said: str) -> str:
    """The code of a language that is told by its code, with a region or without, or by its English
    name.

    Raises:
        InvalidParameter: it is none that is known.
    """
    name = said.strip().lower()
    for one in (name, name.replace("_", "-").partition("-")[0]):
        code = one if one in LANGUAGES else _CODES.get(one)
        if code is not None:
            return code
    raise InvalidParameter(
        f"language must be a code such as en, or a name such as english, not {said!r}",
        param="language",
    )
