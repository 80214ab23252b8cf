package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
)

// hashes prints a hash of the password from each library, at its defaults, as JSON by name.
func hashes(password string) {
	byArgon2, err := argon2id.CreateHash(password, argon2id.DefaultParams)
	if err != nil {
		panic(err)
	}
	byBcrypt, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(map[string]string{
		"alexedwards/argon2id": byArgon2,
		"x/crypto/bcrypt":      string(byBcrypt),
	})
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, string(text))
}
