package main

import (
	"encoding/json"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Between two connections, and before a first one is tried again.
const (
	between = 20 * time.Millisecond
	again   = time.Second
)

type word struct {
	Event      string `json:"event"`
	Connection int    `json:"connection"`
	Text       string `json:"text,omitempty"`
	Number     int64  `json:"number,omitempty"`
	Missed     int64  `json:"missed,omitempty"`
	Ms         int64  `json:"ms,omitempty"`
}

var (
	saying  sync.Mutex
	encoder = json.NewEncoder(os.Stdout)
)

// stayer is one connection.
type stayer struct {
	number int
	nc     *nats.Conn
	closed chan struct{}
	lock   sync.Mutex
	last   int64
	at     time.Time
}

func (s *stayer) say(it word) {
	saying.Lock()
	defer saying.Unlock()
	it.Connection = s.number
	_ = encoder.Encode(it)
}

func (s *stayer) connect(url, user, password string) (err error) {
	s.nc, err = nats.Connect(url,
		nats.UserInfo(user, password),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			said := word{Event: "disconnected"}
			if err != nil {
				said.Text = err.Error()
			}
			s.say(said)
		}),
		nats.ReconnectHandler(func(*nats.Conn) { s.say(word{Event: "reconnected"}) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.say(word{Event: "error", Text: err.Error()})
		}),
		nats.ClosedHandler(func(it *nats.Conn) {
			if err := it.LastError(); err != nil {
				s.say(word{Event: "error", Text: err.Error()})
			}
			s.say(word{Event: "closed"})
			close(s.closed)
		}),
	)
	return err
}

func (s *stayer) hear(message *nats.Msg) {
	number, err := strconv.ParseInt(string(message.Data), 10, 64)
	if err != nil {
		s.say(word{Event: "error", Text: err.Error()})
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if now := time.Now(); s.last > 0 && number > s.last+1 {
		s.say(word{Event: "gap", Missed: number - s.last - 1, Ms: now.Sub(s.at).Milliseconds()})
	}
	s.last, s.at = number, time.Now()
}

// stay returns once the connection is closed for good.
func (s *stayer) stay(subscribe, publish string, pause time.Duration) {
	if _, err := s.nc.Subscribe(subscribe, s.hear); err != nil {
		s.say(word{Event: "error", Text: "subscribe: " + err.Error()})
	}
	if err := s.nc.Flush(); err != nil {
		s.say(word{Event: "error", Text: "flush: " + err.Error()})
	}
	s.say(word{Event: "connected"})
	for number := 1; ; number++ {
		if err := s.nc.Publish(publish, []byte(strconv.Itoa(number))); err != nil {
			s.say(word{Event: "error", Text: "publish: " + err.Error()})
		}
		s.lock.Lock()
		if s.last > 0 {
			s.say(word{Event: "seen", Number: s.last})
		}
		s.lock.Unlock()
		select {
		case <-s.closed:
			return
		case <-time.After(pause):
		}
	}
}

// staying stays connected at the library's defaults, and prints what becomes of that. It takes how many
// connections there are to be, and the seconds between what each publishes and tells.
func staying(url, user, password, subscribe, publish string, many []string) error {
	count, seconds := 1, 0.5
	var err error
	if len(many) > 0 {
		if count, err = strconv.Atoi(many[0]); err != nil {
			return err
		}
	}
	if len(many) > 1 {
		if seconds, err = strconv.ParseFloat(many[1], 64); err != nil {
			return err
		}
	}
	pause := time.Duration(seconds * float64(time.Second))
	var all sync.WaitGroup
	for number := range count {
		it := &stayer{number: number, closed: make(chan struct{})}
		for {
			err := it.connect(url, user, password)
			if err == nil {
				break
			}
			if count == 1 {
				return err
			}
			it.say(word{Event: "error", Text: "at first: " + err.Error()})
			time.Sleep(again)
		}
		all.Go(func() { it.stay(subscribe, publish, pause) })
		time.Sleep(between)
	}
	all.Wait()
	return nil
}
