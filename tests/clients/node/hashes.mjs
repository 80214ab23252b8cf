// Prints a hash of the password from each library, at its defaults, as JSON by name.

import argon2 from "argon2";
import bcrypt from "bcrypt";
import bcryptjs from "bcryptjs";
import pbkdf2 from "@phc/pbkdf2";

const password = process.argv[2];
console.log(JSON.stringify({
  argon2: await argon2.hash(password),
  bcrypt: await bcrypt.hash(password, 10),
  bcryptjs: await bcryptjs.hash(password, 10),
  "@phc/pbkdf2": await pbkdf2.hash(password),
}));
