// Command make writes the golden vectors beside its folder: tokens of every kind of NATS JWT, made
// by the Go library that nats-server uses. Every key derives from a fixed word, so a run changes
// nothing but `iat`, `jti` and the signatures.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// Vector is one token, the key that issued it and what is in it.
type Vector struct {
	Name string `json:"name"`
	// Type is the kind of token that a reader expects here.
	Type       string `json:"type"`
	IssuerSeed string `json:"issuer_seed"`
	Token      string `json:"token"`
	// Claims is the decoded payload; absent where the token must be refused.
	Claims json.RawMessage `json:"claims,omitempty"`
	// Fails names the check that must refuse the token.
	Fails string `json:"fails,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: make DIRECTORY")
	}
	files := map[string][]Vector{
		"operator":               operators(),
		"account":                accounts(),
		"user":                   users(),
		"authorization_request":  requests(),
		"authorization_response": responses(),
		"fail":                   failures(),
	}
	for name, vectors := range files {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		must(encoder.Encode(vectors))
		must(os.WriteFile(filepath.Join(os.Args[1], name+".json"), out.Bytes(), 0o644))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func get[T any](value T, err error) T {
	must(err)
	return value
}

// key derives a key from a word, so that every run has the same ones.
func key(prefix nkeys.PrefixByte, word string) nkeys.KeyPair {
	raw := sha256.Sum256([]byte("nats-callout golden vector: " + word))
	seed := get(nkeys.EncodeSeed(prefix, raw[:]))
	if prefix == nkeys.PrefixByteCurve {
		return get(nkeys.FromCurveSeed(seed))
	}
	return get(nkeys.FromSeed(seed))
}

func public(prefix nkeys.PrefixByte, word string) string {
	return get(key(prefix, word).PublicKey())
}

func operator(word string) string { return public(nkeys.PrefixByteOperator, word) }
func account(word string) string  { return public(nkeys.PrefixByteAccount, word) }
func user(word string) string     { return public(nkeys.PrefixByteUser, word) }
func server(word string) string   { return public(nkeys.PrefixByteServer, word) }
func curve(word string) string    { return public(nkeys.PrefixByteCurve, word) }

// vector signs the claims, reads them back and refuses to write a token with any issue.
func vector(name string, claims jwt.Claims, issuer nkeys.KeyPair) Vector {
	token := get(claims.Encode(issuer))
	decoded := get(jwt.Decode(token))
	issues := jwt.CreateValidationResults()
	decoded.Validate(issues)
	for _, issue := range issues.Issues {
		log.Fatalf("%s: %s", name, issue.Description)
	}
	return Vector{
		Name:       name,
		Type:       string(decoded.ClaimType()),
		IssuerSeed: string(get(issuer.Seed())),
		Token:      token,
		Claims:     get(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])),
	}
}
