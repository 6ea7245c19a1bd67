-- An index of words by twin, in place of FTS5's, which counts every hit whenever it ranks. What ranks a prompt
-- stands ready: how many of the twin's prompts hold a word, how often each does, and how long they are.

DROP TABLE words;

CREATE TABLE words (
    number INTEGER PRIMARY KEY,
    twin TEXT NOT NULL,
    word TEXT NOT NULL,
    prompts INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX words_by_twin ON words (twin, word);

-- The key lays the prompts of each word of a twin side by side, in the order in which they came; `length` is how
-- many words the prompt has in all.
CREATE TABLE words_in_prompts (
    word INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    count INTEGER NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (word, prompt)
) STRICT, WITHOUT ROWID;

CREATE TABLE words_of_twins (
    twin TEXT PRIMARY KEY,
    prompts INTEGER NOT NULL,
    words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is there is split as `memory/words.py` splits what comes. CROSS JOIN: the words first, which have no index
-- by prompt.

CREATE VIRTUAL TABLE temp.known USING fts5 (
    text, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE VIRTUAL TABLE temp.known_words USING fts5vocab (temp, known, instance);

INSERT INTO known (rowid, text) SELECT number, text FROM prompts;

CREATE TEMP TABLE known_lengths (doc INTEGER PRIMARY KEY, length INTEGER NOT NULL);

INSERT INTO known_lengths (doc, length) SELECT doc, count(*) FROM known_words GROUP BY doc;

INSERT INTO words (twin, word, prompts)
SELECT twin, term, count(DISTINCT doc)
FROM known_words CROSS JOIN prompts ON prompts.number = doc
GROUP BY twin, term;

INSERT INTO words_in_prompts (word, prompt, count, length)
SELECT words.number, known_words.doc, count(*), length
FROM known_words
CROSS JOIN known_lengths ON known_lengths.doc = known_words.doc
CROSS JOIN prompts ON prompts.number = known_words.doc
CROSS JOIN words ON words.twin = prompts.twin AND words.word = term
GROUP BY words.number, known_words.doc;

INSERT INTO words_of_twins (twin, prompts, words)
SELECT twin, count(*), coalesce(sum(length), 0) FROM prompts LEFT JOIN known_lengths ON doc = number GROUP BY twin;

DROP TABLE known_lengths;

DROP TABLE known_words;

DROP TABLE known;
