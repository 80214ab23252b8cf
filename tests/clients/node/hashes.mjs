// Prints a hash of the password from each library, at its defaults, as JSON by name.

import argon2 from "argon2";
import bcrypt from "bcrypt";
import bcryptjs from "bcryptjs";
import format from "@phc/format";
import pbkdf2 from "@phc/pbkdf2";

const password = process.argv[2];

// argon2 0.45 computes as 0.44 does and writes m, p, t where that writes m, t, p. Its binary ends some Node 20 when
// it is loaded.
async function argon2From045() {
  const salt = crypto.getRandomValues(Buffer.alloc(16));
  const hash = await argon2.hash(password, { salt, raw: true });
  return format.serialize({ id: "argon2id", version: 0x13, params: { m: 65536, p: 4, t: 3 }, salt, hash });
}

console.log(JSON.stringify({
  argon2: await argon2.hash(password),
  "argon2 from 0.45": await argon2From045(),
  bcrypt: await bcrypt.hash(password, 10),
  bcryptjs: await bcryptjs.hash(password, 10),
  "@phc/pbkdf2": await pbkdf2.hash(password),
}));
