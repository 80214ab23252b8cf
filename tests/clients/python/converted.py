"""Prints what README's function makes of each hash of Django and Werkzeug, as JSON by name: null where it raises."""

import json
import sys

from django.conf import settings
from django.contrib.auth.hashers import make_password
from werkzeug.security import generate_password_hash

password, recipe = sys.argv[1:]
exec(recipe)

names = ["PBKDF2", "PBKDF2SHA1", "Scrypt", "Argon2", "BCrypt", "BCryptSHA256", "MD5"]
hashers = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in names]
settings.configure(PASSWORD_HASHERS=hashers)
hashes = {f"django {by}": make_password(password, hasher=by)
          for by in ["pbkdf2_sha256", "pbkdf2_sha1", "scrypt", "argon2", "bcrypt"]}
hashes |= {f"werkzeug {by}": generate_password_hash(password, by)
           for by in ["scrypt", "pbkdf2", "pbkdf2:sha1", "pbkdf2:sha512:1000"]}
bcrypt, argon2 = hashes["django bcrypt"].removeprefix("bcrypt$"), hashes["django argon2"][len("argon2"):]
hashes |= {"spring bcrypt": "{bcrypt}" + bcrypt, "spring argon2": "{argon2@SpringSecurity_v5_8}" + argon2}
others = [make_password(password, hasher=by) for by in ["bcrypt_sha256", "md5"]]
others += ["{SSHA}MTIzNDU2Nzg=", "{scrypt}$e0801$c2FsdA==$aGFzaA==", "{pbkdf2}0a0b", "argon2$argon2i$v=19$a$b$c",
           "pbkdf2:md5:1000$salt$0a0b", '{"hashIterations":27500}', ""]
hashes |= {f"other {other}": other for other in others}


def made_of(text):
    try:
        return converted(text)
    except ValueError:
        return None


print(json.dumps({name: made_of(text) for name, text in hashes.items()}))
