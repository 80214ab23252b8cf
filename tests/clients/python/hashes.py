"""Prints a hash of the password from each library, at its defaults, as JSON by name."""

import json
import sys

import argon2
import bcrypt
import pwdlib
from passlib.hash import argon2 as passlib_argon2
from passlib.hash import pbkdf2_sha256, pbkdf2_sha512, scrypt

password = sys.argv[1]
print(json.dumps({
    "argon2-cffi": argon2.PasswordHasher().hash(password),
    "bcrypt": bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode(),
    "passlib argon2": passlib_argon2.hash(password),
    "passlib pbkdf2_sha256": pbkdf2_sha256.hash(password),
    "passlib pbkdf2_sha512": pbkdf2_sha512.hash(password),
    "passlib scrypt": scrypt.hash(password),
    "pwdlib": pwdlib.PasswordHash.recommended().hash(password),
}))
