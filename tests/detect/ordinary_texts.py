"""Ordinary texts that hold unusual characters for good reasons. Every detector and control lets them pass unchanged."""

from __future__ import annotations

ORDINARY = {
    "empty": "",
    "ascii": "The quick brown fox jumps over the lazy dog. 0123456789 !@#$%^&*()",
    "emoji-zwj-family": "👨\u200d👩\u200d👧\u200d👦 and 👩🏽\u200d💻 and 🧑\u200d🚀",
    "emoji-zwj-selector": "❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 🏴\u200d☠\ufe0f 👁\ufe0f\u200d🗨\ufe0f "
    "🤷🏻\u200d♀\ufe0f 🏃\u200d♂\ufe0f\u200d➡\ufe0f",
    "emoji-newer-than-tables": "\U0001fae8 \U0001fa77 \U0001f426\u200d\U0001f525 \U0001fadf",
    "emoji-presentation": "✔\ufe0f done, ⚠\ufe0f careful, ℹ\ufe0f note, ☎\ufe0e phone, "
    "©\ufe0f ™\ufe0f ‼\ufe0f 〰\ufe0f ㊗\ufe0f Ⓜ\ufe0f ↔\ufe0f",
    "keycaps": "1\ufe0f\u20e3 2\ufe0f\u20e3 #\ufe0f\u20e3 *\ufe0f\u20e3",
    "flags": "🇩🇪 🇯🇵 🇧🇷",
    "subdivision-flags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f "
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f "
    "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
    "persian-zwnj": "می\u200cخواهم کتاب\u200cهای تازه را بخوانم. نمی\u200cدانم چه می\u200cشود.",
    "persian-zwj": "ه\u200d نشانهٔ هجری است",
    "kurdish": "به\u200cڕێز، نامه\u200cکه\u200cم پێ گه\u200cیشت",
    "hindi": "क्\u200dष और क्\u200cष में अंतर है। नमस्ते दुनिया।",
    "bengali": "র\u200d্যাব একটি শব্দ",
    "malayalam": "അവന്\u200d പറഞ്ഞു",
    "sinhala": "ශ්\u200dරී ලංකාව",
    "kannada": "ರ\u200d್ಯಾಂಕ್",
    "hebrew": "שלום עולם! המחיר הוא 100\u200f ש״ח (כולל מע״מ)\u200f.",
    "hebrew-mixed": "הפקודה\u200e git push \u200eנכשלה",
    "arabic": "مرحبا بالعالم\u200f! الإصدار 2.0\u200e جاهز\u061c.",
    "arabic-isolates": "عنوان الملف \u2068report.pdf شهري\u2069 جاهز",
    "hebrew-nested-isolates": "\u2067שלום \u2066world\u2069 עולם\u2069",
    "hebrew-emoji-mark": "מזל טוב ☺\ufe0f\u200f",
    "chinese": "你好，世界。数据库连接失败：超时（30秒）。",
    "japanese": "東京都　葛\U000e0100飾区と葛\U000e0101城市、辻\U000e0100さん。ｶﾀｶﾅ",
    "japanese-compatibility": "神\ufe00社 令\ufe00和",
    "fullwidth-punctuation": "你好，\ufe00世界。\ufe01",
    "korean": "안녕하세요 세계",
    "old-korean": "\u115fᅡ ᄀ\u1160ᆨ \u115f\u1160ᆨ ᄀ\u1160",
    "thai": "ภาษาไทย\u200bไม่มี\u200bวรรค",
    "khmer": "ភាសា\u200bខ្មែរ ក\u17b5",
    "burmese": "မြန်မာ\u200bဘာသာ",
    "mongolian": "ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ ᠪᠠᠶᠢᠨ\u180e᠎ᠠ ᠳ\u180bᠤ",
    "tibetan": "བོད་སྐད་\u200bཡིན།",
    "vietnamese": "Tiếng Việt có dấu: đường, ngữ, nghiệp",
    "german-hyphenation": "Donau\u00addampf\u00adschiff\u00adfahrts\u00adgesell\u00adschaft",
    "french-spaces": "Attention\u00a0: 1\u202f000\u00a0€ «\u00a0bonjour\u00a0»",
    "math": "∀x∈ℝ: x²≥0, ∪\ufe00 and 0\ufe00 are variants",
    "math-script": "\U0001d49c\ufe00 and ℒ\ufe01 are a category and a Lagrangian",
    "khamti": "\uaa60\ufe00\uaa6b\ufe00",
    "music": "\U0001d15f\U0001d173\U0001d160\U0001d174",
    "private-use": "\ue0b0 main \uf418 powerline prompt",
    "byte-order-mark": "\ufeffid,name\r\n1,Ada\r\n",
    "windows-log": "2026-01-01 12:00:00 INFO start\r\n2026-01-01 12:00:01 WARN C:\\temp\\build\\new\\x1b.log\r\n",
    "doubled-carriage-returns": "line one\r\r\nline two\r\r\n",
    "tabs": "a\tb\tc\n1\t2\t3\n",
    "source-code": "re.compile(r'\\b\\w+\\b\\f\\r(?!\\n)')\n"
    "print('\\x1b[31m' + \"\\u001b[0m\\\\\" + '\\b\\r\\a\\033]0;t\\007')\n",
    "json-in-json": '{"pattern": "\\\\b[A-Z]\\\\r\\\\n", "esc": "\\\\u001b[0m"}',
    "page-breaks": "/* part one */\n\x0c\n/* part two */\n\x0cint main;",
    "overstrike": "N\x08NA\x08AM\x08ME\x08E\n       _\x08f_\x08i_\x08l_\x08e - a manual page\n",
    "tqdm": "  0%|          | 0/10 [00:00<?, ?it/s]\r 50%|█████     | 5/10 [00:02<00:02,  2.01it/s]\r"
    "100%|██████████| 10/10 [00:04<00:00,  2.33it/s]\n",
    "git": "Receiving objects:  50% (1/2)\rReceiving objects: 100% (2/2)\r"
    "Receiving objects: 100% (2/2), 1.2 MiB | 3 MiB/s, done.\n",
    "curl": "  % Total    % Received\n  0     0    0     0 --:--:-- --:--:--     0\r"
    "100  1256  100  1256  9000 --:--:-- 9000\n",
    "shorter-stages": "Fetching a.tar.gz 100 kB/s eta 0:01\rFetching a.tar.gz 99 kB/s eta 0:01\r"
    "Fetching a.tar.gz 100 kB/s eta 0:00\rFetching a.tar.gz 9 kB/s eta\rFetching a.tar.gz 5 kB/s eta 0:00, done\n",
    "last-stage": "Downloading 12%\r",
    "css-and-html": "<b>&#x200b;</b> content: '\\200b'; ‹ › … – — • ★",
}
