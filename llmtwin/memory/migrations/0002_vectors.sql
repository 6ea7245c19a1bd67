-- What a prompt means, as a unit vector of 32-bit floats; `model` names the embedding model it is of.
-- It goes away with its prompt.

CREATE TABLE vectors (
    prompt INTEGER PRIMARY KEY REFERENCES prompts (number) ON DELETE CASCADE,
    model TEXT NOT NULL,
    vector BLOB NOT NULL
) STRICT;
