package main

import (
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func request(fill func(*jwt.AuthorizationRequestClaims)) *jwt.AuthorizationRequestClaims {
	claims := jwt.NewAuthorizationRequestClaims(user("connection"))
	claims.Audience = "nats-authorization-request"
	claims.Expires = far
	claims.UserNkey = user("connection")
	claims.Server = jwt.ServerID{Name: "n1", Host: "127.0.0.1", ID: server("n1"), Version: "2.15.1"}
	fill(claims)
	return claims
}

func requests() []Vector {
	identity := key(nkeys.PrefixByteServer, "n1")

	password := request(func(c *jwt.AuthorizationRequestClaims) {
		c.ClientInformation = jwt.ClientInformation{
			Host: "192.0.2.7", ID: 18446744073709551615, User: "alice", Name: "app", Kind: "Client", Type: "nats",
		}
		c.ConnectOptions = jwt.ConnectOptions{
			Username: "alice", Password: "p\u00e4ss\"word\\ <&>\u2028", Name: "app",
			Lang: "rust", Version: "0.51.0", Protocol: 1,
		}
	})

	token := request(func(c *jwt.AuthorizationRequestClaims) {
		c.ClientInformation = jwt.ClientInformation{Host: "192.0.2.7", ID: 7, User: "[REDACTED]", Kind: "Client", Type: "websocket"}
		c.ConnectOptions = jwt.ConnectOptions{Token: "an-opaque-token", Lang: "python3", Version: "2.16.0", Protocol: 1}
		c.Server.XKey = curve("n1")
		c.Server.Cluster = "c1"
		c.Server.Tags.Add("region:eu", "blue")
	})

	nkey := request(func(c *jwt.AuthorizationRequestClaims) {
		c.ClientInformation = jwt.ClientInformation{
			Host: "2001:db8::1", ID: 8, User: user("nkey client"), Name: "n", Kind: "Client", Type: "nats",
			Tags: jwt.TagList{"one", "two"}, NameTag: "alice", Nonce: "aN9-nonce",
		}
		c.ConnectOptions = jwt.ConnectOptions{
			JWT:  vector("sentinel", sentinelUser(), key(nkeys.PrefixByteAccount, "AUTH")).Token,
			Nkey: user("nkey client"), SignedNonce: "c2lnbmVk",
		}
		c.RequestNonce = "request-nonce"
	})

	tls := request(func(c *jwt.AuthorizationRequestClaims) {
		c.ClientInformation = jwt.ClientInformation{Host: "192.0.2.9", ID: 9, Kind: "Client", Type: "mqtt", MQTT: "sensor-1"}
		c.ConnectOptions = jwt.ConnectOptions{Username: "sensor", Password: "s", Token: "s"}
		c.TLS = &jwt.ClientTLS{
			Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256",
			Certs:          jwt.StringList{pem("unverified")},
			VerifiedChains: []jwt.StringList{{pem("client"), pem("authority")}, {pem("client")}},
		}
	})

	empty := request(func(*jwt.AuthorizationRequestClaims) {})

	return []Vector{
		vector("request_password", password, identity),
		vector("request_token_xkey_cluster", token, identity),
		vector("request_nkey", nkey, identity),
		vector("request_tls_mqtt", tls, identity),
		vector("request_no_credentials", empty, identity),
	}
}

// sentinelUser is a bearer user that may do nothing: a sentinel.
func sentinelUser() *jwt.UserClaims {
	claims := jwt.NewUserClaims(user("sentinel"))
	claims.BearerToken = true
	claims.Pub.Deny.Add(">")
	claims.Sub.Deny.Add(">")
	return claims
}

func pem(word string) string {
	return "-----BEGIN CERTIFICATE-----\n" + word + "\n-----END CERTIFICATE-----\n"
}

func responses() []Vector {
	identity := key(nkeys.PrefixByteAccount, "AUTH")
	signing := key(nkeys.PrefixByteAccount, "response signing 1")

	granted := jwt.NewUserClaims(user("connection"))
	granted.Audience = "USERS"
	granted.Expires = far
	granted.Pub.Allow.Add("user.42.>")

	response := func(fill func(*jwt.AuthorizationResponseClaims)) *jwt.AuthorizationResponseClaims {
		claims := jwt.NewAuthorizationResponseClaims(user("connection"))
		claims.Audience = server("n1")
		fill(claims)
		return claims
	}
	return []Vector{
		vector("response_jwt", response(func(c *jwt.AuthorizationResponseClaims) {
			c.Jwt = vector("granted", granted, identity).Token
		}), identity),
		vector("response_error", response(func(c *jwt.AuthorizationResponseClaims) {
			c.Error = "access denied"
		}), identity),
		vector("response_jwt_signing_key", response(func(c *jwt.AuthorizationResponseClaims) {
			c.Jwt = vector("granted", granted, identity).Token
			c.IssuerAccount = account("AUTH")
		}), signing),
		vector("response_error_expiring", response(func(c *jwt.AuthorizationResponseClaims) {
			c.Error = "access denied"
			c.IssuerAccount = account("AUTH")
			c.Expires = far
		}), signing),
	}
}
