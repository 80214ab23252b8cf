package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

const nkeyHeader = `{"typ":"JWT","alg":"ed25519-nkey"}`

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// forge signs any header and payload, which the library would refuse to.
func forge(header, payload string, issuer nkeys.KeyPair) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(get(issuer.Sign([]byte(signed))))
}

// edit changes top-level claims (or, below "nats", those of the body); nil removes one.
func edit(claims json.RawMessage, changes map[string]any) string {
	var all map[string]any
	decoder := json.NewDecoder(bytes.NewReader(claims))
	decoder.UseNumber()
	must(decoder.Decode(&all))
	for path, value := range changes {
		at, name := all, path
		if body, found := strings.CutPrefix(path, "nats."); found {
			at, name = all["nats"].(map[string]any), body
		}
		if value == nil {
			delete(at, name)
		} else {
			at[name] = value
		}
	}
	return string(get(json.Marshal(all)))
}

func reversed(raw []byte) []byte {
	turned := slices.Clone(raw)
	slices.Reverse(turned)
	return turned
}

func failures() []Vector {
	good := users()[1]
	other := users()[0]
	signing := key(nkeys.PrefixByteAccount, "user signing 1")
	part := strings.Split(good.Token, ".")
	payload := string(good.Claims)

	flipped := []byte(get(base64.RawURLEncoding.DecodeString(part[2])))
	flipped[10] ^= 1
	signatureV1 := base64.RawURLEncoding.EncodeToString(get(signing.Sign([]byte(b64(payload)))))
	issuedBy := func(issuer nkeys.KeyPair, kind string) string {
		return forge(nkeyHeader, edit(good.Claims, map[string]any{
			"iss": get(issuer.PublicKey()), "nats.type": kind,
		}), issuer)
	}
	// S plus the order of the group satisfies the same equation; RFC 8032 demands the smaller one.
	raw := []byte(get(base64.RawURLEncoding.DecodeString(part[2])))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).SetBytes(reversed(raw[32:]))
	twin := append(slices.Clone(raw[:32]), reversed(s.Add(s, order).FillBytes(make([]byte, 32)))...)

	// The last of the 86 characters of a signature holds four bits that nobody reads.
	last := strings.IndexByte(alphabet, part[2][85])
	malleable := part[0] + "." + part[1] + "." + part[2][:85] + string(alphabet[last|1])

	fail := func(name, kind, token, fails string) Vector {
		return Vector{Name: "fail_" + name, Type: kind, IssuerSeed: good.IssuerSeed, Token: token, Fails: fails}
	}
	return []Vector{
		fail("empty", "user", "", "shape"),
		fail("two_parts", "user", part[0]+"."+part[1], "shape"),
		fail("four_parts", "user", good.Token+"."+part[2], "shape"),
		fail("trailing_dot", "user", good.Token+".", "shape"),
		fail("trailing_newline", "user", good.Token+"\n", "shape"),
		fail("leading_space", "user", " "+good.Token, "shape"),
		fail("trailing_garbage", "user", good.Token+"AAAA", "signature"),
		fail("truncated_signature", "user", part[0]+"."+part[1]+"."+base64.RawURLEncoding.EncodeToString(raw[:60]), "signature"),
		fail("no_signature", "user", part[0]+"."+part[1]+".", "signature"),
		fail("truncated_payload", "user", part[0]+"."+b64(payload[:len(payload)-6])+"."+part[2], "claims"),
		fail("empty_payload", "user", part[0]+".."+part[2], "claims"),
		fail("truncated_header", "user", b64(nkeyHeader[:len(nkeyHeader)-6])+"."+part[1]+"."+part[2], "header"),
		fail("padded_signature", "user", good.Token+"==", "shape"),
		fail("padded_header", "user", part[0]+"==."+part[1]+"."+part[2], "shape"),
		fail("standard_base64", "user", part[0]+"."+part[1]+"."+part[2][:84]+"+/", "shape"),
		fail("noncanonical_trailing_bits", "user", malleable, "shape"),
		fail("flipped_signature", "user", part[0]+"."+part[1]+"."+base64.RawURLEncoding.EncodeToString(flipped), "signature"),
		fail("signature_plus_order", "user", part[0]+"."+part[1]+"."+base64.RawURLEncoding.EncodeToString(twin), "signature"),
		fail("zero_signature", "user", part[0]+"."+part[1]+"."+strings.Repeat("A", 86), "signature"),
		fail("swapped_payload", "user", part[0]+"."+strings.Split(other.Token, ".")[1]+"."+part[2], "signature"),
		fail("raised_permissions", "user", part[0]+"."+b64(edit(good.Claims, map[string]any{"nats.pub": map[string]any{}}))+"."+part[2], "signature"),
		fail("other_issuer_claimed", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"iss": account("tenant")}), signing), "signature"),
		fail("alg_none", "user", b64(`{"typ":"JWT","alg":"none"}`)+"."+part[1]+".", "header"),
		fail("alg_none_signed", "user", forge(`{"typ":"JWT","alg":"none"}`, payload, signing), "header"),
		fail("alg_hs256", "user", forge(`{"typ":"JWT","alg":"HS256"}`, payload, signing), "header"),
		fail("alg_eddsa", "user", forge(`{"typ":"JWT","alg":"EdDSA"}`, payload, signing), "header"),
		fail("alg_ed25519_v1", "user", b64(`{"typ":"jwt","alg":"ed25519"}`)+"."+b64(payload)+"."+signatureV1, "header"),
		fail("v1_signature", "user", part[0]+"."+part[1]+"."+signatureV1, "signature"),
		fail("typ_other", "user", forge(`{"typ":"JWE","alg":"ed25519-nkey"}`, payload, signing), "header"),
		fail("header_no_object", "user", forge(`[]`, payload, signing), "header"),
		fail("version_1", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"nats.version": 1}), signing), "type"),
		fail("version_3", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"nats.version": 3}), signing), "type"),
		fail("version_missing", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"nats.version": nil}), signing), "type"),
		fail("type_missing", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"nats.type": nil}), signing), "type"),
		fail("user_as_account", "account", good.Token, "type"),
		fail("user_as_response", "authorization_response", good.Token, "type"),
		fail("account_as_user", "user", accounts()[0].Token, "type"),
		fail("response_as_request", "authorization_request", responses()[1].Token, "type"),
		fail("user_issued_by_user", "user", issuedBy(key(nkeys.PrefixByteUser, "alice"), "user"), "issuer"),
		fail("user_issued_by_operator", "user", issuedBy(key(nkeys.PrefixByteOperator, "operator"), "user"), "issuer"),
		fail("account_issued_by_account", "account", forge(nkeyHeader, edit(accounts()[0].Claims, map[string]any{"iss": account("tenant")}), key(nkeys.PrefixByteAccount, "tenant")), "issuer"),
		fail("request_issued_by_account", "authorization_request", forge(nkeyHeader, edit(requests()[0].Claims, map[string]any{"iss": account("tenant")}), key(nkeys.PrefixByteAccount, "tenant")), "issuer"),
		fail("response_issued_by_server", "authorization_response", forge(nkeyHeader, edit(responses()[1].Claims, map[string]any{"iss": server("n1")}), key(nkeys.PrefixByteServer, "n1")), "issuer"),
		fail("issuer_no_nkey", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"iss": "alice"}), signing), "issuer"),
		fail("issuer_missing", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"iss": nil}), signing), "claims"),
		fail("issuer_twice", "user", forge(nkeyHeader, strings.Replace(payload, `{`, `{"iss":"`+account("tenant")+`",`, 1), signing), "claims"),
		fail("issuer_bad_checksum", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"iss": account("tenant")[:55] + "A"}), signing), "issuer"),
		fail("payload_no_json", "user", forge(nkeyHeader, "not json", signing), "claims"),
		fail("payload_trailing_json", "user", forge(nkeyHeader, payload+"{}", signing), "claims"),
		fail("body_missing", "user", forge(nkeyHeader, `{"iss":"x","sub":"y"}`, signing), "claims"),
		fail("permissions_no_list", "user", forge(nkeyHeader, edit(good.Claims, map[string]any{"nats.pub": map[string]any{"allow": 1}}), signing), "claims"),
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
