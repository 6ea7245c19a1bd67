-- An index of words by twin, in place of FTS5's, which counts every hit whenever it ranks. What ranks a prompt
-- stands ready: how many of the twin's prompts hold a word, how often each does, and how long they are.

DROP TABLE words;

ALTER TABLE prompts ADD COLUMN words INTEGER NOT NULL DEFAULT 0;

CREATE TABLE words (
    number INTEGER PRIMARY KEY,
    twin TEXT NOT NULL,
    word TEXT NOT NULL,
    prompts INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX words_by_twin ON words (twin, word);

-- The key lays the prompts of each word of a twin side by side, in the order in which they came.
CREATE TABLE words_in_prompts (
    word INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (word, prompt)
) STRICT, WITHOUT ROWID;

CREATE TABLE words_of_twins (
    twin TEXT PRIMARY KEY,
    prompts INTEGER NOT NULL,
    words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is there is split as `memory/words.py` splits what comes.

CREATE VIRTUAL TABLE temp.known USING fts5 (
    text, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE VIRTUAL TABLE temp.known_words USING fts5vocab (temp, known, instance);

INSERT INTO known (rowid, text) SELECT number, text FROM prompts;

INSERT INTO words (twin, word, prompts)
SELECT twin, term, count(DISTINCT doc) FROM known_words JOIN prompts ON prompts.number = doc GROUP BY twin, term;

INSERT INTO words_in_prompts (word, prompt, count)
SELECT words.number, doc, count(*)
FROM known_words
JOIN prompts ON prompts.number = doc
JOIN words ON words.twin = prompts.twin AND words.word = term
GROUP BY words.number, doc;

UPDATE prompts SET words = total
FROM (SELECT prompt, sum(count) AS total FROM words_in_prompts GROUP BY prompt) WHERE prompt = number;

INSERT INTO words_of_twins (twin, prompts, words) SELECT twin, count(*), sum(words) FROM prompts GROUP BY twin;

DROP TABLE known_words;

DROP TABLE known;
