-- Times are microseconds since 1970 in UTC, values are JSON.

CREATE TABLE prompts (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    twin TEXT NOT NULL,
    at INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX prompts_of_twin ON prompts (twin, id);

-- The key lays every path's history side by side, oldest first; ties go by prompt and position, so that
-- the order of arrival decides nothing.
CREATE TABLE facts (
    twin TEXT NOT NULL,
    path TEXT NOT NULL,
    at INTEGER NOT NULL,
    prompt TEXT NOT NULL REFERENCES prompts (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    value TEXT NOT NULL,
    unit TEXT,
    measure TEXT,
    area TEXT,
    PRIMARY KEY (twin, path, at, prompt, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX facts_of_prompt ON facts (prompt, position);

-- The last fact of every path, copied column by column: what `latest` and `aggregate` read, so that
-- they cost the same however long the history is.
CREATE TABLE latest (
    twin TEXT NOT NULL,
    path TEXT NOT NULL,
    at INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    position INTEGER NOT NULL,
    value TEXT NOT NULL,
    unit TEXT,
    measure TEXT,
    area TEXT,
    PRIMARY KEY (twin, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX latest_of_measure ON latest (measure, twin);

CREATE VIRTUAL TABLE words USING fts5 (
    text, twin,
    content = 'prompts', content_rowid = 'number',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
