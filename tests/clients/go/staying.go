package main

import (
	"encoding/json"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const pause = 500 * time.Millisecond

type word struct {
	Event  string `json:"event"`
	Text   string `json:"text,omitempty"`
	Number int64  `json:"number,omitempty"`
	Missed int64  `json:"missed,omitempty"`
	Ms     int64  `json:"ms,omitempty"`
}

// staying stays connected at the library's defaults, and prints what becomes of that.
func staying(url, user, password, subscribe, publish string) error {
	var lock sync.Mutex
	encoder := json.NewEncoder(os.Stdout)
	say := func(it word) {
		lock.Lock()
		defer lock.Unlock()
		_ = encoder.Encode(it)
	}
	closed := make(chan struct{})
	connection, err := nats.Connect(url,
		nats.UserInfo(user, password),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			said := word{Event: "disconnected"}
			if err != nil {
				said.Text = err.Error()
			}
			say(said)
		}),
		nats.ReconnectHandler(func(*nats.Conn) { say(word{Event: "reconnected"}) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			say(word{Event: "error", Text: err.Error()})
		}),
		nats.ClosedHandler(func(it *nats.Conn) {
			if err := it.LastError(); err != nil {
				say(word{Event: "error", Text: err.Error()})
			}
			say(word{Event: "closed"})
			close(closed)
		}),
	)
	if err != nil {
		return err
	}
	var heard sync.Mutex
	var last int64
	var at time.Time
	_, err = connection.Subscribe(subscribe, func(message *nats.Msg) {
		number, err := strconv.ParseInt(string(message.Data), 10, 64)
		if err != nil {
			say(word{Event: "error", Text: err.Error()})
			return
		}
		heard.Lock()
		defer heard.Unlock()
		if now := time.Now(); last > 0 && number > last+1 {
			say(word{Event: "gap", Missed: number - last - 1, Ms: now.Sub(at).Milliseconds()})
		}
		last, at = number, time.Now()
	})
	if err != nil {
		return err
	}
	if err := connection.Flush(); err != nil {
		return err
	}
	say(word{Event: "connected"})
	for number := 1; ; number++ {
		if err := connection.Publish(publish, []byte(strconv.Itoa(number))); err != nil {
			say(word{Event: "error", Text: "publish: " + err.Error()})
		}
		heard.Lock()
		if last > 0 {
			say(word{Event: "seen", Number: last})
		}
		heard.Unlock()
		select {
		case <-closed:
			return nil
		case <-time.After(pause):
		}
	}
}
