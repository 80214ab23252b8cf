"""Prints what README's function makes of each hash of Django, Werkzeug and Spring, what is made of those that log
in as they are, why it refuses others, and why a hash that ends too early, as JSON by name."""

import json
import sys

import argon2
import bcrypt
from django.conf import settings
from django.contrib.auth.hashers import make_password
from passlib.hash import pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512, scrypt
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
written = {by: text for by, text in hashes.items() if by not in ["django argon2", "django bcrypt"]}
spring_bcrypt, spring_argon2 = hashes["django bcrypt"].removeprefix("bcrypt$"), hashes["django argon2"][len("argon2"):]
hashes |= {"spring bcrypt": "{bcrypt}" + spring_bcrypt, "spring argon2": "{argon2@SpringSecurity_v5_8}" + spring_argon2}

sound = {
    "argon2-cffi": argon2.PasswordHasher().hash(password),
    "bcrypt": bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode(),
    "passlib pbkdf2_sha1": pbkdf2_sha1.hash(password),
    "passlib pbkdf2_sha256": pbkdf2_sha256.hash(password),
    "passlib pbkdf2_sha512": pbkdf2_sha512.hash(password),
    "passlib scrypt": scrypt.hash(password),
}
others = [make_password(password, hasher=by) for by in ["bcrypt_sha256", "md5"]]
others += ["{SSHA}MTIzNDU2Nzg=", "{scrypt}$e0801$c2FsdA==$aGFzaA==", "{pbkdf2}0a0b", "argon2$argon2i$v=19$a$b$c",
           "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$eA", "$pbkdf2-sha384$1000$c2FsdA$aGFzaA",
           "$scrypt$n=16384,r=8,p=1$c2FsdA$aGFzaA", "$bcrypt-sha256$v=2,t=2b,r=12$c2FsdA$aGFzaA",
           "pbkdf2:md5:1000$salt$0a0b", '{"hashIterations":27500}', ""]
uneven = {f"{by} {n}": hashes[by].replace(was, str(n), 1)
          for by, was in [("django scrypt", "16384"), ("werkzeug scrypt", "32768")] for n in [16000, 0, 1]}
changed = [hashes["django pbkdf2_sha256"][:-4] + "!!!=", hashes["werkzeug scrypt"][:-2] + "zz",
           hashes["django scrypt"].replace("$16384$", "$many$"), hashes["werkzeug pbkdf2"] + "00"]


def why(text):
    try:
        return "made " + converted(text)
    except ValueError as error:
        assert error.__cause__ is None and error.__context__ is None
        return str(error)


def why_cut(text):
    """Why each beginning is refused that tells the form; what ends within a digest of PHC's the database refuses."""
    is_phc = text in sound.values() and not text.startswith("$2")
    end = text.rindex("$") + 1 if is_phc else len(text)
    begin = text.index("$", 1) + 1 if text[0] == "$" else max(text.find(":sha512:") + 8, text.index("$") + 1)
    return sorted({why(text[:length]) for length in range(begin, end)})


print(json.dumps({
    "converted": {by: converted(text) for by, text in hashes.items()},
    "as they are": {by: text for by, text in sound.items() if converted(text) == text},
    "others": {text: why(text) for text in others},
    "uneven": {by: why(text) for by, text in uneven.items()},
    "changed": {text: why(text) for text in changed},
    "cut short": {by: why_cut(text) for by, text in (written | sound).items()},
}))
