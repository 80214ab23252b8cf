"""Writes a list of subjects into the users of a database in PostgreSQL, as a list of Python's and as its JSON. Prints
what came of each, as JSON."""

import json
import sys

import psycopg
from psycopg.types.json import Json

subjects = ["orders.*"]
said = {}
for what, value in [("list", subjects), ("json.dumps", json.dumps(subjects)), ("Json", Json(subjects))]:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        try:
            connection.execute("UPDATE users SET publish = %s", (value,))
            said[what] = "taken"
        except psycopg.Error as error:
            said[what] = str(error)
print(json.dumps(said))
