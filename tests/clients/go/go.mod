module nats-callout/tests/clients/go

go 1.26.0

require (
	github.com/alexedwards/argon2id v1.0.0
	github.com/nats-io/nats.go v1.55.0
	github.com/nats-io/nkeys v0.4.16
	golang.org/x/crypto v0.59.0
)

require (
	github.com/klauspost/compress v1.20.0 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/sys v0.50.0 // indirect
)
