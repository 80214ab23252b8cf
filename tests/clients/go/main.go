// Command login logs in with nats.go and prints what happened; with the first argument `presets` it
// does what a preset allows, with `stores` it tries what stores do, with `staying` it stays connected. See ../README.md.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const timeout = 10 * time.Second

type result struct {
	Connected  bool     `json:"connected"`
	Error      *string  `json:"error"`
	Received   []string `json:"received"`
	Reply      *string  `json:"reply"`
	Violations []string `json:"violations"`
	Jetstream  *stored  `json:"jetstream"`
}

func (r *result) fail(err error) {
	text := err.Error()
	r.Error = &text
}

func nkey(seed string) nats.Option {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		log.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		log.Fatal(err)
	}
	return nats.Nkey(public, pair.Sign)
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: login URL [options]")
	}
	if os.Args[1] == "hashes" {
		hashes(os.Args[2])
		return
	}
	if os.Args[1] == "stores" {
		if len(os.Args) < 7 {
			log.Fatal("usage: stores URL USER PASSWORD kv|objects|stream NAME [make]")
		}
		if err := stores(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], len(os.Args) > 7); err != nil {
			log.Fatal(err)
		}
		return
	}
	if os.Args[1] == "presets" {
		if len(os.Args) < 7 {
			log.Fatal("usage: presets URL USER PASSWORD ACTION NAME [NAME]")
		}
		if err := presets(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6:]); err != nil {
			log.Fatal(err)
		}
		return
	}
	if os.Args[1] == "staying" {
		if len(os.Args) < 7 {
			log.Fatal("usage: staying URL USER PASSWORD SUBSCRIBE PUBLISH [COUNT [SECONDS]]")
		}
		if err := staying(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6], os.Args[7:]); err != nil {
			log.Fatal(err)
		}
		return
	}
	user := flag.String("user", "", "")
	password := flag.String("password", "", "")
	token := flag.String("token", "", "")
	seed := flag.String("nkey-seed", "", "")
	ca := flag.String("ca", "", "")
	cert := flag.String("cert", "", "")
	key := flag.String("key", "", "")
	inbox := flag.String("inbox-prefix", "", "")
	subscribe := flag.String("subscribe", "", "")
	publish := flag.String("publish", "", "")
	request := flag.String("request", "", "")
	forbidden := flag.String("forbidden", "", "")
	stream := flag.String("stream", "", "")
	consumer := flag.String("consumer", "", "")
	store := flag.String("store", "", "")
	create := flag.Bool("create", false, "")
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}

	seen := &result{Received: []string{}, Violations: []string{}}
	var lock sync.Mutex
	violated := make(chan struct{}, 16)
	options := []nats.Option{
		nats.NoReconnect(),
		nats.Timeout(timeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
				lock.Lock()
				seen.Violations = append(seen.Violations, err.Error())
				lock.Unlock()
				violated <- struct{}{}
			}
		}),
	}
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "user":
			options = append(options, nats.UserInfo(*user, *password))
		case "token":
			options = append(options, nats.Token(*token))
		case "nkey-seed":
			options = append(options, nkey(*seed))
		case "ca":
			options = append(options, nats.RootCAs(*ca))
		case "cert":
			options = append(options, nats.ClientCert(*cert, *key))
		case "inbox-prefix":
			options = append(options, nats.CustomInboxPrefix(*inbox))
		}
	})
	defer func() {
		lock.Lock()
		defer lock.Unlock()
		if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
			log.Fatal(err)
		}
	}()

	connection, err := nats.Connect(os.Args[1], options...)
	if err != nil {
		seen.fail(err)
		return
	}
	defer connection.Close()
	seen.Connected = true

	hello := make(chan string, 16)
	_, err = connection.Subscribe(*subscribe, func(message *nats.Msg) {
		if message.Reply != "" {
			_ = message.Respond(append([]byte("pong:"), message.Data...))
		} else {
			hello <- string(message.Data)
		}
	})
	if err != nil {
		seen.fail(err)
		return
	}
	if err := connection.Publish(*publish, []byte("hello")); err != nil {
		seen.fail(err)
		return
	}
	select {
	case text := <-hello:
		seen.Received = append(seen.Received, text)
	case <-time.After(timeout):
	}
	if answer, err := connection.Request(*request, []byte("ping"), timeout); err != nil {
		seen.fail(err)
	} else {
		text := string(answer.Data)
		seen.Reply = &text
	}

	if *stream != "" {
		if seen.Jetstream, err = useJetstream(connection, *stream, *consumer, *store, *create); err != nil {
			seen.fail(err)
		}
	}
	if *forbidden == "" {
		return
	}

	if _, err := connection.SubscribeSync(*forbidden); err != nil {
		seen.fail(err)
	}
	if err := connection.Publish(*forbidden, []byte("forbidden")); err != nil {
		seen.fail(err)
	}
	for range 2 {
		select {
		case <-violated:
		case <-time.After(timeout):
		}
	}
}
