package main

import (
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// far is an expiry that no test lives to see.
const far = 4102444800

func operators() []Vector {
	identity := key(nkeys.PrefixByteOperator, "operator")

	minimal := jwt.NewOperatorClaims(operator("operator"))

	full := jwt.NewOperatorClaims(operator("operator"))
	full.Name = "nats-callout"
	full.SigningKeys.Add(operator("operator signing 1"), operator("operator signing 2"))
	full.SystemAccount = account("SYS")
	full.StrictSigningKeyUsage = true

	unmodelled := jwt.NewOperatorClaims(operator("operator"))
	unmodelled.AccountServerURL = "https://accounts.example.com/jwt/v1"
	unmodelled.OperatorServiceURLs.Add("tls://nats.example.com:4222")
	unmodelled.AssertServerVersion = "2.11.2"
	unmodelled.Tags.Add("blue")

	return []Vector{
		vector("operator_minimal", minimal, identity),
		vector("operator_full", full, identity),
		vector("operator_unmodelled", unmodelled, identity),
	}
}

func accounts() []Vector {
	identity := key(nkeys.PrefixByteOperator, "operator")
	signing := key(nkeys.PrefixByteOperator, "operator signing 1")

	minimal := jwt.NewAccountClaims(account("tenant"))

	tenant := jwt.NewAccountClaims(account("tenant"))
	tenant.Name = "tenant 42 \"Ünï\" <&>"
	tenant.Expires = far
	tenant.Imports.Add(
		&jwt.Import{Name: "events", Subject: "user.42.Events", Account: account("BB"), LocalSubject: "Events", Type: jwt.Service},
		&jwt.Import{Subject: "user.42.Notifications", Account: account("BB"), LocalSubject: "Notifications", Type: jwt.Stream},
	)
	tenant.Limits.Conn = 100
	tenant.Limits.LeafNodeConn = 2
	tenant.Limits.Subs = 1000
	tenant.Limits.Payload = 1 << 20
	tenant.Limits.MemoryStorage = 64 << 20
	tenant.Limits.DiskStorage = 5 << 30
	tenant.Limits.Streams = 10
	tenant.Limits.Consumer = 100
	tenant.SigningKeys.Add(account("user signing 1"), account("user signing 2"))
	tenant.RevokeAt(user("revoked"), time.Unix(1700000000, 0))
	tenant.RevokeAt("*", time.Unix(1600000000, 0))
	tenant.DefaultPermissions.Pub.Deny.Add(">")
	tenant.DefaultPermissions.Sub.Deny.Add(">")

	bb := jwt.NewAccountClaims(account("BB"))
	bb.Name = "BB"
	bb.Exports.Add(
		&jwt.Export{Name: "events", Subject: "user.*.Events", Type: jwt.Service},
		&jwt.Export{Name: "requests", Subject: "bb.requests", Type: jwt.Service, ResponseType: jwt.ResponseTypeStream},
		&jwt.Export{Name: "notifications", Subject: "user.*.Notifications", Type: jwt.Stream},
		&jwt.Export{Name: "private", Subject: "private.>", Type: jwt.Stream, TokenReq: true},
	)
	bb.Imports.Add(
		&jwt.Import{Subject: "user.*.Events", Account: account("USERS"), LocalSubject: "pool.user.*.Events", Type: jwt.Stream},
		&jwt.Import{Subject: "user.*.Notifications", Account: account("USERS"), Type: jwt.Service},
	)
	bb.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}

	auth := jwt.NewAccountClaims(account("AUTH"))
	auth.Name = "AUTH"
	auth.SigningKeys.Add(account("response signing 1"), account("response signing 2"))
	auth.Authorization.AuthUsers.Add(user("service"))
	auth.Authorization.AllowedAccounts.Add(account("BB"), account("USERS"))
	auth.Authorization.XKey = curve("service")

	anywhere := jwt.NewAccountClaims(account("AUTH"))
	anywhere.Authorization.AuthUsers.Add(user("service"), user("second"))
	anywhere.Authorization.AllowedAccounts.Add(jwt.AnyAccount)

	unmodelled := jwt.NewAccountClaims(account("tenant"))
	unmodelled.Description = "what nothing here reads"
	unmodelled.InfoURL = "https://example.com/tenant"
	unmodelled.Tags.Add("blue")
	unmodelled.AddMapping("orders", jwt.WeightedMapping{Subject: "orders.v2", Weight: 100})
	unmodelled.Trace = &jwt.MsgTrace{Destination: "trace.here", Sampling: 10}
	unmodelled.ClusterTraffic = jwt.ClusterTrafficOwner
	unmodelled.Limits.DisallowBearer = true
	unmodelled.Limits.JetStreamTieredLimits = jwt.JetStreamTieredLimits{"R3": {DiskStorage: 1 << 30}}
	unmodelled.Imports.Add(&jwt.Import{Subject: "shared", Account: account("BB"), Type: jwt.Service, Share: true})
	unmodelled.Exports.Add(&jwt.Export{
		Subject:              "timed.*",
		Type:                 jwt.Service,
		ResponseThreshold:    time.Second,
		Latency:              &jwt.ServiceLatency{Sampling: 50, Results: "latency"},
		AccountTokenPosition: 2,
		Advertise:            true,
		Info:                 jwt.Info{Description: "a timed service"},
	})

	return []Vector{
		vector("account_minimal", minimal, identity),
		vector("account_tenant", tenant, signing),
		vector("account_bb", bb, signing),
		vector("account_auth", auth, signing),
		vector("account_auth_anywhere", anywhere, signing),
		vector("account_unmodelled", unmodelled, signing),
	}
}

func users() []Vector {
	identity := key(nkeys.PrefixByteAccount, "tenant")
	signing := key(nkeys.PrefixByteAccount, "user signing 1")

	minimal := jwt.NewUserClaims(user("alice"))

	limited := jwt.NewUserClaims(user("alice"))
	limited.Name = "alice"
	limited.Expires = far
	limited.IssuerAccount = account("tenant")
	limited.Pub.Allow.Add("Events", "user.42.Events", "_R_.>")
	limited.Pub.Deny.Add("user.42.Events.secret")
	limited.Sub.Allow.Add("Notifications", "_INBOX_42.>", "orders.* workers")
	limited.Sub.Deny.Add("$SYS.>")
	limited.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: 30 * time.Second}
	limited.Limits.Subs = 100
	limited.Limits.Data = 1 << 30
	limited.Limits.Payload = 65536

	placed := jwt.NewUserClaims(user("alice"))
	placed.Audience = "USERS"
	placed.Expires = far
	placed.Pub.Allow.Add("user.42.>")
	placed.Sub.Allow.Add("user.42.>")

	sentinel := jwt.NewUserClaims(user("sentinel"))
	sentinel.Name = "sentinel"
	sentinel.BearerToken = true
	sentinel.Pub.Deny.Add(">")
	sentinel.Sub.Deny.Add(">")

	scoped := jwt.NewUserClaims(user("alice"))
	scoped.SetScoped(true)
	scoped.IssuerAccount = account("tenant")

	unmodelled := jwt.NewUserClaims(user("alice"))
	unmodelled.NotBefore = 1700000000
	unmodelled.Tags.Add("blue")
	unmodelled.Src.Add("192.0.2.0/24")
	unmodelled.Times = []jwt.TimeRange{{Start: "08:00:00", End: "17:00:00"}}
	unmodelled.Locale = "Europe/Berlin"
	unmodelled.ProxyRequired = true
	unmodelled.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)

	return []Vector{
		vector("user_minimal", minimal, identity),
		vector("user_limited", limited, signing),
		vector("user_placed_by_audience", placed, identity),
		vector("user_sentinel", sentinel, identity),
		vector("user_scoped", scoped, signing),
		vector("user_unmodelled", unmodelled, identity),
	}
}
